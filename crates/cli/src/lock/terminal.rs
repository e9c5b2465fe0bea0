//! The terminal of `lockstead lock`: lent to CMD's process group while it runs, so that Ctrl-C and Ctrl-Z reach CMD
//! and it may read, and taken back afterwards.

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use rustix::{
    process::Pid,
    stdio::stdin,
    termios::{isatty, tcgetpgrp, tcsetpgrp},
};

/// The terminal this process belongs to.
#[derive(Debug)]
pub(crate) struct Terminal {
    ours: Pid,
}

impl Terminal {
    /// The terminal on standard input, `None` where that is none.
    pub(crate) fn on_stdin() -> Option<Terminal> {
        let controlling = isatty(stdin()) && tcgetpgrp(stdin()).is_ok();
        controlling.then(|| Terminal { ours: rustix::process::getpgrp() })
    }

    /// Makes another process group the foreground one, if ours is now.
    pub(crate) fn lend(&self, group: Pid) {
        if tcgetpgrp(stdin()).is_ok_and(|foreground| foreground == self.ours) {
            set_foreground(group);
        }
    }

    /// Makes our own process group the foreground one again, unless somebody else took the terminal meanwhile.
    pub(crate) fn take_back(&self, from: Pid) {
        if tcgetpgrp(stdin()).is_ok_and(|group| group == from) {
            set_foreground(self.ours);
        }
    }

    /// Stops this process and its group as Ctrl-Z does, until the user's shell continues it. Returns at once where no
    /// shell would (an orphaned group): the kernel then drops the signal.
    pub(crate) fn suspend(&self) {
        let _ = rustix::process::kill_current_process_group(rustix::process::Signal::TSTP);
    }
}

/// A process in the background that sets the foreground is stopped by SIGTTOU, unless it blocks that.
fn set_foreground(group: Pid) {
    let mut ttou = SigSet::empty();
    ttou.add(Signal::SIGTTOU);
    let before = ttou.thread_swap_mask(SigmaskHow::SIG_BLOCK);
    // Fails where the terminal hung up or the group is gone: then there is nobody to give it to.
    let _ = tcsetpgrp(stdin(), group);
    if let Ok(before) = before {
        let _ = before.thread_set_mask();
    }
}
