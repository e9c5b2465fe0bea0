//! How the command ends: one enum of exit statuses, and the failure that carries one.
//!
//! Scripts branch on these numbers, so each has one meaning. They follow `flock(1)`, the shell and `sysexits.h`.

use std::{fmt, process::ExitCode};

/// How a command ended.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    /// 0: done.
    Success,
    /// 1, or the code of `-E`: the lock was not obtained; for other commands: looked for and not there.
    NotObtained(u8),
    /// 64: the command line, or a name, mode or lockspace in it, makes no sense.
    Usage,
    /// 69: no node could be reached, or it may not decide now, or one of its bounds was reached.
    Unavailable,
    /// 70: something that should not happen, such as a full disk.
    Failed,
    /// 75: chosen as the victim of a deadlock; trying again is right.
    Deadlock,
    /// 77: not allowed.
    Denied,
    /// 120: the lock was lost while CMD ran, and CMD was stopped. Overrides all others.
    Lost,
    /// 126: CMD is there but cannot be run.
    NotRunnable,
    /// 127: CMD was not found.
    NotFound,
    /// 128 + n: CMD, or the wait for the lock, was ended by signal n.
    Signal(u8),
    /// What CMD exited with.
    Child(u8),
}

impl Exit {
    /// The number.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Exit::Success => 0,
            Exit::NotObtained(code) | Exit::Child(code) => code,
            Exit::Usage => 64,
            Exit::Unavailable => 69,
            Exit::Failed => 70,
            Exit::Deadlock => 75,
            Exit::Denied => 77,
            Exit::Lost => 120,
            Exit::NotRunnable => 126,
            Exit::NotFound => 127,
            Exit::Signal(n) => 128u8.saturating_add(n),
        }
    }

    /// With a message for standard error.
    pub(crate) fn because(self, message: impl Into<String>) -> Failure {
        Failure { exit: self, message: message.into() }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}

/// Why a command could not do what it was told, in words for people.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What to exit with.
    pub(crate) exit: Exit,
    /// What to say; empty where nothing is to be said.
    pub(crate) message: String,
}

/// What a command ends with.
pub(crate) type Outcome = Result<Exit, Failure>;

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        // The reader of our output is gone (`lockstead ls | head -1`): nothing to complain about.
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Exit::Success.because("");
        }
        Exit::Failed.because(error.to_string())
    }
}
