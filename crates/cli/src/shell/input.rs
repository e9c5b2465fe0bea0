//! Lines of standard input, read on a thread of their own: the sessions' leases must be renewed while nobody types.

use core::time::Duration;
use std::{
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    thread,
};

use tokio::sync::mpsc;

use crate::exit::{Exit, Failure};

/// How often a person at a terminal sees what happens while nothing is typed.
const IDLE: Duration = Duration::from_millis(100);

/// Who is at the other end.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    /// A person: there is a prompt, and a mistake is no reason to stop.
    Terminal,
    /// A file or a pipe.
    Script,
}

/// What comes next.
pub(crate) enum Next {
    /// A line, with its number from 1 on.
    Line(usize, String),
    /// Nothing was typed for a while. Only at a terminal.
    Idle,
    /// There is nothing more.
    End,
}

/// Standard input.
pub(crate) struct Lines {
    lines: mpsc::Receiver<io::Result<String>>,
    source: Source,
    number: usize,
    /// Whether the line that is waited for was asked for.
    prompted: bool,
}

impl Lines {
    /// Starts reading.
    pub(crate) fn open() -> Lines {
        let source =
            if io::stdin().is_terminal() && io::stdout().is_terminal() { Source::Terminal } else { Source::Script };
        let (sender, lines) = mpsc::channel(1);
        // Ends with the input, or with the process: a read cannot be taken back.
        thread::spawn(move || {
            for line in io::stdin().lock().lines() {
                if sender.blocking_send(line).is_err() {
                    return;
                }
            }
        });
        Lines { lines, source, number: 0, prompted: false }
    }

    pub(crate) fn source(&self) -> Source {
        self.source
    }

    /// The next line. Waits for it however long; at a terminal it looks up now and then.
    ///
    /// # Errors
    /// Input that cannot be read, or is not UTF-8.
    pub(crate) async fn next(&mut self) -> Result<Next, Failure> {
        let line = match self.source {
            Source::Script => self.lines.recv().await,
            Source::Terminal => {
                self.prompt_once()?;
                match tokio::time::timeout(IDLE, self.lines.recv()).await {
                    Ok(line) => line,
                    Err(_) => return Ok(Next::Idle),
                }
            }
        };
        let Some(line) = line else { return Ok(Next::End) };
        self.number += 1;
        self.prompted = false;
        match line {
            Ok(line) => Ok(Next::Line(self.number, line)),
            Err(error) => Err(Exit::Usage.because(format!("line {}: {error}", self.number))),
        }
    }

    /// Asks for a line.
    ///
    /// # Errors
    /// What standard output says.
    pub(crate) fn prompt(&mut self) -> io::Result<()> {
        self.prompted = true;
        let mut out = io::stdout().lock();
        out.write_all(b"> ")?;
        out.flush()
    }

    fn prompt_once(&mut self) -> io::Result<()> {
        if self.prompted { Ok(()) } else { self.prompt() }
    }
}
