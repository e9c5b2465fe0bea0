//! How things are printed: one small table formatter for people, one JSON document (or one a line) for programs.

pub(crate) mod json;
pub(crate) mod table;
pub(crate) mod text;

use std::io::{self, Write};

use serde_json::Value;

/// `-o`.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people; may change between versions.
    #[default]
    Text,
    /// For programs; field names are stable, tokens and other 64-bit numbers that count nothing are strings.
    Json,
}

/// Options of every command that prints.
#[derive(Copy, Clone, Debug, clap::Args)]
pub(crate) struct OutputArgs {
    /// How to print
    #[arg(short, long = "output", value_name = "FORMAT", value_enum, default_value_t)]
    pub(crate) output: Format,
}

impl OutputArgs {
    /// Prints one of the two forms of the same thing.
    ///
    /// # Errors
    /// What standard output says.
    pub(crate) fn print(self, json: impl FnOnce() -> Value, text: impl FnOnce() -> String) -> io::Result<()> {
        let mut out = match self.output {
            Format::Json => json().to_string(),
            Format::Text => text(),
        };
        if !out.is_empty() && !out.ends_with('\n') {
            out.push('\n');
        }
        write_out(&out)
    }
}

/// Writes to standard output at once, also where that is a pipe.
///
/// # Errors
/// What standard output says; a reader that is gone is [`io::ErrorKind::BrokenPipe`].
pub(crate) fn write_out(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Says something to the user beside the output.
pub(crate) fn tell(text: &str) {
    // Nothing can be said about standard error being gone.
    let _ = writeln!(io::stderr().lock(), "lockstead: {text}");
}
