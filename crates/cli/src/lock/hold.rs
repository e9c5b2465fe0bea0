//! While the lock is held: CMD is started, watched and stopped, and the lock released.

use core::time::Duration;
use std::{os::fd::AsFd as _, process::Stdio, time::Instant};

use lockstead::{Client, Guard, Lost};
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    Args, SESSION,
    alarm::Alarm,
    signals::Signals,
    terminal::Terminal,
    warden::Warden,
    watchdog::{Hold, Stage, Watchdog},
};
use crate::{
    child::{Change, Child, Start},
    exit::{Exit, Failure, Outcome},
    output::tell,
};

/// How long the node may take to acknowledge a release where no lease bounds it.
const RELEASE_FOR: Duration = Duration::from_secs(5);

/// Runs CMD under the lock and releases it.
pub(super) async fn run_under(args: &Args, client: &Client, guard: Guard, signals: &mut Signals) -> Outcome {
    let mut watched = Watched::start(args, client, &guard)?;
    let exit = watched.until_over(client, &guard, signals).await?;
    if exit == Exit::Lost {
        return Ok(exit);
    }
    watched.warden.done();
    release(client, guard).await;
    Ok(exit)
}

/// The acknowledged release: whoever is next has the lock before this program exits. Where the node does not answer, the
/// lock ends with its lease, which is waited for no longer than it lasts.
async fn release(client: &Client, guard: Guard) {
    let bound = client.left().unwrap_or(RELEASE_FOR);
    match tokio::time::timeout(bound, guard.release()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tell(&format!("the command ended inside the lock, but its release failed: {error}")),
        Err(_) => tell("the command ended inside the lock, but the node did not acknowledge its release"),
    }
}

/// CMD, its terminal, and what was done to it so far.
struct Watched {
    child: Child,
    warden: Warden,
    terminal: Option<Terminal>,
    dog: Watchdog,
    alarm: Alarm,
    ended: tokio::signal::unix::Signal,
    stage: Stage,
    revoked: Option<Instant>,
}

impl Watched {
    fn start(args: &Args, client: &Client, guard: &Guard) -> Result<Watched, Failure> {
        // Before there is a child whose end could be missed.
        let ended = signal(SignalKind::child())?;
        let alarm = Alarm::new()?;
        let env = [
            ("LOCKSTEAD_NAME", args.name.to_string()),
            ("LOCKSTEAD_TOKEN", guard.token().to_string()),
            (SESSION, client.session_id().to_string()),
        ];
        // The session of a killed wrapper lives until the last process with this socket is gone: the node frees the lock
        // no sooner than CMD has been killed.
        let socket = client.unix_socket();
        let socket = socket.as_ref().map(|socket| socket.as_fd());
        let (child, _) = Child::start(Start { command: &args.command, env: &env, socket, stdout: Stdio::inherit() })?;
        let warden = Warden::start(child.group(), socket)?;
        let terminal = Terminal::on_stdin();
        if let Some(terminal) = &terminal {
            terminal.lend(child.group());
        }
        child.go_on();
        // A node may grant a longer lease than was asked for, and never one so short that the absolute bounds fail.
        let dog = Watchdog::new(args.ttl.max(client.left().unwrap_or_default()));
        Ok(Watched { child, warden, terminal, dog, alarm, ended, stage: Stage::Run, revoked: None })
    }

    async fn until_over(&mut self, client: &Client, guard: &Guard, signals: &mut Signals) -> Outcome {
        loop {
            let next = self.act_on(client, guard);
            match self.child.poll() {
                Some(Change::Ended(exit)) => return Ok(self.over(client, guard, exit)),
                Some(Change::Stopped) => {
                    self.suspend(client, guard);
                    continue;
                }
                None => {}
            }
            tokio::select! {
                _ = self.ended.recv() => {}
                signal = signals.next() => self.child.signal(signal),
                () = self.alarm.after(next) => {}
                _ = guard.lost(), if self.stage == Stage::Run => {}
            }
        }
    }

    /// Does to CMD what the state of the lock demands; after how long to look again.
    fn act_on(&mut self, client: &Client, guard: &Guard) -> Option<Duration> {
        let hold = self.hold(client, guard);
        if let Hold::For(left) = hold {
            self.warden.until(self.dog.until_too_late(left));
        }
        let (stage, next) = self.dog.stage(hold);
        if stage > self.stage {
            self.stage = stage;
            tell(&stopping(hold, stage, guard));
            self.child.signal(if stage == Stage::Kill { Signal::KILL } else { Signal::TERM });
            // A stopped process ends no sooner than it is continued.
            self.child.go_on();
        }
        next
    }

    fn hold(&mut self, client: &Client, guard: &Guard) -> Hold {
        match guard.check() {
            Err(Lost::Revoked(_)) => Hold::Revoked(self.revoked.get_or_insert_with(Instant::now).elapsed()),
            Err(_) => Hold::Lost,
            Ok(()) => client.left().map_or(Hold::Unbounded, Hold::For),
        }
    }

    /// CMD stopped. Its terminal goes back to the user, and this program stops as well, as one job, where a shell is there
    /// to continue it. While it sleeps nothing renews the lease, so that is looked at before CMD goes on.
    fn suspend(&mut self, client: &Client, guard: &Guard) {
        let Some(terminal) = &self.terminal else { return };
        terminal.take_back(self.child.group());
        terminal.suspend();
        terminal.lend(self.child.group());
        self.act_on(client, guard);
        self.child.go_on();
    }

    /// CMD has ended. It ended inside the lock if the lock is still held now and was never so doubtful that CMD had to be
    /// stopped.
    fn over(&mut self, client: &Client, guard: &Guard, exit: Exit) -> Exit {
        if let Some(terminal) = &self.terminal {
            terminal.take_back(self.child.group());
        }
        let lost = matches!(self.hold(client, guard), Hold::Lost | Hold::Revoked(_));
        if lost || self.stage > Stage::Run {
            // Those it started and did not wait for are in its group, and outside the lock.
            self.child.signal(Signal::KILL);
            tell("the lock was lost; the command was stopped or ended too late");
            return Exit::Lost;
        }
        exit
    }
}

fn stopping(hold: Hold, stage: Stage, guard: &Guard) -> String {
    let why = match (hold, guard.check()) {
        (Hold::Revoked(_) | Hold::Lost, Err(lost)) => format!("the lock was {lost}"),
        (Hold::Revoked(_) | Hold::Lost, Ok(())) => "the lock is lost".to_owned(),
        (Hold::For(_) | Hold::Unbounded, _) => "the node does not answer and the lease runs out".to_owned(),
    };
    format!("{why}: {} the command", if stage == Stage::Kill { "killing" } else { "ending" })
}
