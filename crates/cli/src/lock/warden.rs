//! The warden: a second process that ends what CMD started when the wrapper can no longer do so.
//!
//! PDEATHSIG ends CMD with the wrapper, but not what CMD started. Without the warden: the wrapper of `sh -c 'work; more'`
//! is killed, `sh` dies with it, `work` runs on, the lease ends, another holder is granted the lock, and two are inside.
//! And a wrapper that is stopped (SIGSTOP) renews nothing and kills nobody, while CMD runs on past the lease.
//!
//! So the warden sits at the end of a pipe that only the wrapper can write to. It is told CMD's process group and until
//! when the lock is sure, as often as that moves. When the time comes without news, or the pipe ends without a
//! [`Word::Done`], it kills the whole group. It has the session's socket too: over a Unix socket the node frees the lock
//! no sooner than the warden is done.
//!
//! What leaves the group (`setsid`) escapes it.

use core::time::Duration;
use std::{
    io::{self, Write as _},
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::process::CommandExt as _,
    },
    process::{Child, ChildStdin, Command, Stdio},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, Signal},
    time::{ClockId, clock_gettime},
};

use crate::{
    child::Inherited,
    exit::{Exit, Outcome},
};

/// What the wrapper says to its warden: 16 bytes, so that a write to the pipe is whole or not at all.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Word {
    /// CMD's process group.
    Group(u64),
    /// Nanoseconds of `CLOCK_BOOTTIME` at which the group must be gone unless another word comes.
    Until(u64),
    /// CMD ended inside the lock: what it left behind is its own affair.
    Done,
}

const WORD_BYTES: usize = 16;

impl Word {
    fn to_bytes(self) -> [u8; WORD_BYTES] {
        let (kind, value) = match self {
            Word::Group(group) => (1u64, group),
            Word::Until(nanos) => (2, nanos),
            Word::Done => (3, 0),
        };
        let mut bytes = [0; WORD_BYTES];
        let (first, second) = bytes.split_at_mut(8);
        first.copy_from_slice(&kind.to_ne_bytes());
        second.copy_from_slice(&value.to_ne_bytes());
        bytes
    }

    fn from_bytes(bytes: [u8; WORD_BYTES]) -> Option<Word> {
        let [a, b, c, d, e, f, g, h, value @ ..] = bytes;
        let value = u64::from_ne_bytes(value);
        match u64::from_ne_bytes([a, b, c, d, e, f, g, h]) {
            1 => Some(Word::Group(value)),
            2 => Some(Word::Until(value)),
            3 => Some(Word::Done),
            _ => None,
        }
    }
}

/// The wrapper's end.
#[derive(Debug)]
pub(super) struct Warden {
    _process: Child,
    pipe: ChildStdin,
    until: u64,
}

impl Warden {
    /// Starts the warden of a CMD that has not run yet.
    ///
    /// # Errors
    /// What the operating system says.
    pub(super) fn start(group: Pid, socket: Option<BorrowedFd<'_>>) -> io::Result<Warden> {
        let mut command = Command::new("/proc/self/exe");
        // A group of its own: Ctrl-C is for CMD, and the warden must not die of it.
        command.arg0("lockstead").arg("__warden").process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let inherited = socket.map(Inherited::open).transpose()?;
        let spawned = command.spawn();
        drop(inherited);
        let mut process = spawned?;
        let pipe = process.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let mut warden = Warden { _process: process, pipe, until: u64::MAX };
        let group = u64::try_from(group.as_raw_nonzero().get()).unwrap_or_default();
        warden.say(Word::Group(group))?;
        Ok(warden)
    }

    /// The lock is sure for `left` more; the group must be gone by then.
    pub(super) fn until(&mut self, left: Duration) {
        let at = now().saturating_add(u64::try_from(left.as_nanos()).unwrap_or(u64::MAX));
        if at != self.until && self.say(Word::Until(at)).is_ok() {
            self.until = at;
        }
    }

    /// CMD ended inside the lock.
    pub(super) fn done(mut self) {
        // A warden that is gone kills nobody.
        let _ = self.say(Word::Done);
    }

    fn say(&mut self, word: Word) -> io::Result<()> {
        self.pipe.write_all(&word.to_bytes())
    }
}

/// Whether this process is a warden.
pub(crate) fn is_command_line() -> bool {
    std::env::args_os().nth(1).is_some_and(|word| word == "__warden")
}

/// Watches until there is nothing to watch any more.
pub(crate) fn run() -> Outcome {
    let stdin = io::stdin();
    let mut group = None;
    let mut until = u64::MAX;
    loop {
        match hear(stdin.as_fd(), until) {
            Heard::Word(Word::Group(pid)) => group = i32::try_from(pid).ok().and_then(Pid::from_raw),
            Heard::Word(Word::Until(nanos)) => until = nanos,
            Heard::Word(Word::Done) => return Ok(Exit::Success),
            Heard::Late | Heard::Gone => break,
        }
    }
    if let Some(group) = group {
        // The only expected failure is that no process of the group is left.
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
    Ok(Exit::Success)
}

enum Heard {
    Word(Word),
    /// The time came.
    Late,
    /// The wrapper is gone, or says what no wrapper says.
    Gone,
}

/// Waits for a word until the time comes. The wait is cut into slices, since `poll` stands still while the machine is
/// suspended and `CLOCK_BOOTTIME` does not.
fn hear(pipe: BorrowedFd<'_>, until: u64) -> Heard {
    const SLICE: u64 = 1_000_000_000;
    loop {
        let left = until.saturating_sub(now());
        if left == 0 {
            return Heard::Late;
        }
        let slice = left.min(SLICE);
        let nanos = i64::try_from(slice % 1_000_000_000).unwrap_or_default();
        let timeout = Timespec { tv_sec: i64::try_from(slice / 1_000_000_000).unwrap_or_default(), tv_nsec: nanos };
        let bounded = (until != u64::MAX).then_some(&timeout);
        match poll(&mut [PollFd::new(&pipe, PollFlags::IN)], bounded) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return read_word(pipe),
            Err(_) => return Heard::Gone,
        }
    }
}

fn read_word(pipe: BorrowedFd<'_>) -> Heard {
    let mut bytes = [0; WORD_BYTES];
    match rustix::io::retry_on_intr(|| rustix::io::read(pipe, &mut bytes)) {
        Ok(WORD_BYTES) => Word::from_bytes(bytes).map_or(Heard::Gone, Heard::Word),
        _ => Heard::Gone,
    }
}

fn now() -> u64 {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_heard_as_it_was_said() {
        for word in [Word::Group(4711), Word::Until(u64::MAX), Word::Done] {
            assert_eq!(Word::from_bytes(word.to_bytes()), Some(word));
        }
        assert_eq!(Word::from_bytes([0; WORD_BYTES]), None);
    }
}
