//! A command run by this one as a process that must not outlive it: how it is started, so that it never outlives the wrapper inside the lock, and
//! how its end is read.
//!
//! It is started through this same program (`lockstead __child`), which does what must happen between fork and exec:
//! the standard library offers no safe place for it. The order matters:
//!
//! 1. the wrapper starts `__child` in a process group of its own, with the session's socket;
//! 2. `__child` asks to be killed when the wrapper dies (PDEATHSIG), checks that it has not died yet, and stops itself;
//! 3. the wrapper sees it stopped, gives the terminal to its group, and continues it;
//! 4. `__child` execs CMD.
//!
//! A wrapper that dies before 2 is noticed by the check, and one that dies after it takes `__child` or CMD with it: at
//! no point does CMD run without a wrapper. Without 3 before 4, CMD could read the terminal while it is still in the
//! background and be stopped for it.

use std::{
    ffi::OsString,
    os::{fd::BorrowedFd, unix::process::CommandExt},
    process::{ChildStdout, Command, Stdio},
};

use rustix::{
    io::{Errno, FdFlags, fcntl_setfd},
    process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus},
};

use crate::exit::{Exit, Outcome};

/// A CMD that was started and has not been seen to end.
#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
}

/// How to start one.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    /// CMD and its arguments.
    pub(crate) command: &'a [OsString],
    /// What its environment has beyond ours.
    pub(crate) env: &'a [(&'static str, String)],
    /// A descriptor it inherits.
    pub(crate) socket: Option<BorrowedFd<'a>>,
    /// Its standard output.
    pub(crate) stdout: Stdio,
}

/// What became of it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    /// It ended so.
    Ended(Exit),
    /// A signal stopped it (Ctrl-Z, or a read of the terminal from the background).
    Stopped,
}

impl Child {
    /// Starts `__child` and returns once it has stopped and waits for [`Child::go_on`] (or has died).
    ///
    /// Call it on a thread that lives as long as the wrapper: PDEATHSIG fires when the *thread* that forked ends.
    ///
    /// # Errors
    /// What the operating system says.
    pub(crate) fn start(start: Start<'_>) -> std::io::Result<(Child, Option<ChildStdout>)> {
        let mut child = Command::new("/proc/self/exe");
        child.arg0("lockstead").arg("__child").arg(std::process::id().to_string()).args(start.command);
        child.envs(start.env.iter().map(|(key, value)| (key, value))).process_group(0).stdout(start.stdout);
        let inherited = start.socket.map(Inherited::open).transpose()?;
        let spawned = child.spawn();
        drop(inherited);
        let mut spawned = spawned?;
        let pid = i32::try_from(spawned.id()).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
        // Does not take its status away if it died instead: that is for `poll` to find.
        let stopped_or_dead = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        rustix::io::retry_on_intr(|| rustix::process::waitid(WaitId::Pid(pid), stopped_or_dead))?;
        let _ = rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::STOPPED | WaitIdOptions::NOHANG);
        Ok((Child { pid }, spawned.stdout.take()))
    }

    /// Lets CMD run, first or again.
    pub(crate) fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    /// Its process group, whose number is its own.
    pub(crate) fn group(&self) -> Pid {
        self.pid
    }

    /// Sends a signal to it and everything it started that stayed in its group.
    pub(crate) fn signal(&self, signal: Signal) {
        // The only expected failure is that no process of the group is left.
        let _ = rustix::process::kill_process_group(self.pid, signal);
    }

    /// What became of it since the last look, without waiting.
    pub(crate) fn poll(&self) -> Option<Change> {
        let options = WaitOptions::NOHANG | WaitOptions::UNTRACED;
        match rustix::process::waitpid(Some(self.pid), options) {
            Ok(Some((_, status))) => change(status),
            Ok(None) | Err(Errno::INTR) => None,
            // Somebody else reaped it: its status is not to be had.
            Err(_) => Some(Change::Ended(Exit::Failed)),
        }
    }
}

/// How a process ended, as a shell says it.
pub(crate) fn exit_of_status(status: std::process::ExitStatus) -> Exit {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Child(u8::try_from(code & 0xff).unwrap_or(u8::MAX)),
        (None, Some(signal)) => Exit::Signal(u8::try_from(signal).unwrap_or(127)),
        (None, None) => Exit::Failed,
    }
}

/// How a command ends that a signal ended.
pub(crate) fn exit_of(signal: Signal) -> Exit {
    Exit::Signal(u8::try_from(signal.as_raw()).unwrap_or(127))
}

fn change(status: WaitStatus) -> Option<Change> {
    if let Some(code) = status.exit_status() {
        return Some(Change::Ended(Exit::Child(u8::try_from(code & 0xff).unwrap_or(u8::MAX))));
    }
    if let Some(signal) = status.terminating_signal() {
        return Some(Change::Ended(Exit::Signal(u8::try_from(signal).unwrap_or(127))));
    }
    status.stopped().then_some(Change::Stopped)
}

/// A descriptor that the next process started inherits; closed to later ones when this is dropped.
pub(crate) struct Inherited<'a>(BorrowedFd<'a>);

impl Inherited<'_> {
    /// # Errors
    /// What the operating system says.
    pub(crate) fn open(fd: BorrowedFd<'_>) -> std::io::Result<Inherited<'_>> {
        fcntl_setfd(fd, FdFlags::empty())?;
        Ok(Inherited(fd))
    }
}

impl Drop for Inherited<'_> {
    fn drop(&mut self) {
        let _ = fcntl_setfd(self.0, FdFlags::CLOEXEC);
    }
}

/// The hidden command `__child PARENT CMD ...`.
#[derive(Debug)]
pub(crate) struct Args {
    /// The process without which CMD must not run.
    parent: i32,
    /// What to become.
    command: Vec<OsString>,
}

impl Args {
    /// The command line of this process, if it is that command.
    pub(crate) fn of_command_line() -> Option<Args> {
        let mut words = std::env::args_os().skip(1);
        words.next().filter(|word| word == "__child")?;
        let parent = words.next()?.to_str()?.parse().ok()?;
        Some(Args { parent, command: words.collect() })
    }
}

/// Waits to be continued and becomes CMD. Returns only where it cannot.
pub(crate) fn run(args: &Args) -> Outcome {
    use rustix::process::{getpid, getppid, kill_process, set_parent_process_death_signal};
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(std::io::Error::from)?;
    // A parent that died before the line above killed nobody: another process is the parent now.
    if getppid() != Pid::from_raw(args.parent) {
        return Ok(Exit::Lost);
    }
    kill_process(getpid(), Signal::STOP).map_err(std::io::Error::from)?;
    let Some((program, words)) = args.command.split_first() else { return Err(Exit::Usage.because("no command")) };
    let error = Command::new(program).args(words).exec();
    let exit = if error.kind() == std::io::ErrorKind::NotFound { Exit::NotFound } else { Exit::NotRunnable };
    Err(exit.because(format!("{}: {error}", program.to_string_lossy())))
}
