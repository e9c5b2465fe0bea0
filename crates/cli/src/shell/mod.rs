//! `lockstead shell`: many sessions in one terminal or script.
//!
//! A line is played and then waited out: a barrier through every open session, so that nothing it caused is still to
//! come when its events are printed. So the output of a script is the same on every run but for its tokens. The language
//! and the form of the events are `lockstead-script`'s; this module is its transport over real sessions.

mod cast;
mod input;
mod json;

use std::path::PathBuf;

use lockstead_script::{Command, Event, HELP, parse_line, parse_script};

use self::{
    cast::{Cast, Seen},
    input::{Lines, Source},
};
use crate::{
    args::ConnectArgs,
    exit::{Exit, Failure, Outcome},
    output::{Format, OutputArgs, tell, write_out},
    runtime,
};

/// Options of `lockstead shell`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    /// The script; standard input where none is given, or `-`
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    connect: ConnectArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Runs the shell.
///
/// # Errors
/// [`Exit::Usage`] for a line that is no command; [`Exit::Unavailable`] where no node can be reached.
pub(crate) fn run(args: &Args) -> Outcome {
    let shell = Shell { cast: Cast::new(args.connect.clone()), format: args.output.output };
    match args.file.as_ref().filter(|file| file.as_os_str() != "-") {
        Some(file) => {
            let text = std::fs::read_to_string(file)
                .map_err(|error| Exit::Usage.because(format!("{}: {error}", file.display())))?;
            // A script that is wrong anywhere does nothing at all.
            let script =
                parse_script(&text).map_err(|error| Exit::Usage.because(format!("{}: {error}", file.display())))?;
            runtime::run(shell.play(script))
        }
        None => runtime::run(shell.converse()),
    }
}

struct Shell {
    cast: Cast,
    format: Format,
}

impl Shell {
    /// Plays a whole script.
    async fn play(mut self, script: Vec<(usize, Command)>) -> Outcome {
        for (_, command) in script {
            self.line(&command).await?;
        }
        self.end().await
    }

    /// Plays lines as they are typed or piped in.
    async fn converse(mut self) -> Outcome {
        let mut lines = Lines::open();
        let at_terminal = lines.source() == Source::Terminal;
        while let Some((number, line)) = self.next(&mut lines).await? {
            match parse_line(&line) {
                Ok(Some(command)) => self.line(&command).await?,
                Ok(None) => {}
                Err(_) if at_terminal && matches!(line.trim(), "help" | "?") => write_out(HELP)?,
                Err(error) if at_terminal => tell(&format!("{error}\n  `help` shows the language.")),
                Err(error) => return Err(Exit::Usage.because(format!("line {number}, {error}"))),
            }
        }
        self.end().await
    }

    /// The next line. At a terminal, what happens meanwhile is printed as it comes; a script's output has its places.
    async fn next(&mut self, lines: &mut Lines) -> Result<Option<(usize, String)>, Failure> {
        loop {
            match lines.next().await? {
                input::Next::Line(number, line) => return Ok(Some((number, line))),
                input::Next::End => return Ok(None),
                input::Next::Idle => {
                    let seen = self.cast.look();
                    if !seen.is_empty() {
                        write_out("\n")?;
                        self.print(&seen)?;
                        lines.prompt()?;
                    }
                }
            }
        }
    }

    async fn line(&mut self, command: &Command) -> Result<(), Failure> {
        self.cast.play(command).await?;
        if command.background {
            return Ok(());
        }
        let seen = self.cast.barrier(&command.session).await?;
        self.print(&seen)
    }

    /// Waits out what lines in the background caused, then ends every session in order.
    async fn end(mut self) -> Outcome {
        let seen = self.cast.barrier("").await?;
        self.print(&seen)?;
        self.cast.close().await?;
        Ok(Exit::Success)
    }

    fn print(&self, seen: &[Seen]) -> Result<(), Failure> {
        let mut text = String::new();
        for Seen { session, event } in seen {
            match self.format {
                Format::Json => {
                    text.push_str(&json::event(session, event).to_string());
                    text.push('\n');
                }
                Format::Text => push_lines(session, event, &mut text),
            }
        }
        if text.is_empty() { Ok(()) } else { write_out(&text).map_err(Failure::from) }
    }
}

fn push_lines(session: &str, event: &Event, text: &mut String) {
    for line in event.lines() {
        text.push_str(session);
        text.push_str(": ");
        text.push_str(&line);
        text.push('\n');
    }
}
