//! `lockstead lock`: holds a lock while a command runs, and stops the command before anybody else can have the lock.

mod alarm;
mod hold;
mod signals;
mod terminal;
pub(crate) mod warden;
mod watchdog;

use core::time::Duration;
use std::{ffi::OsString, path::Path, time::Instant};

use lockstead::{Client, Error, Guard, LockBuilder, SessionId, Space};

use crate::{
    args::{CONNECT_FOR, ConnectArgs, Name, SpaceArgs, lease, name, seconds},
    child::exit_of,
    connect::{About, builder, explain, space},
    exit::{Exit, Failure, Outcome},
    runtime,
};

use signals::Signals;

/// Where CMD finds the session.
const SESSION: &str = "LOCKSTEAD_SESSION";

/// How long a goodbye may take once nothing depends on it any more.
const GOODBYE: Duration = Duration::from_secs(1);

/// How long connecting may take at least: a shorter `-w` would find every node unreachable.
const CONNECT_LEAST: Duration = Duration::from_millis(100);

const LONG: &str = "\
Hold a lock while a command runs.

Waits for the lock, runs CMD, releases the lock when CMD ends, and exits with its status. CMD finds LOCKSTEAD_NAME, \
LOCKSTEAD_TOKEN (the fencing token: hand it to whatever CMD changes, which refuses older ones) and LOCKSTEAD_SESSION in \
its environment.

Where CMD runs this program again, the inner one knows by LOCKSTEAD_SESSION what it runs within: the outer lock is not released before it has ended. So a deadlock of nested commands is found at once, and the inner one that closed it exits with 75 and does not run its command; waiting for a lock that is held around oneself is one. Only sessions of the same node and user count. What runs apart from CMD, in the background, is started with `env -u LOCKSTEAD_SESSION`.

CMD runs in a process group of its own. It never runs without the lock: should the lease become doubtful (the node does \
not answer), the group gets SIGTERM when 40 % of the lease is left (at most 3 s) and SIGKILL when 15 % is left (at most \
1 s); should this program be killed, CMD is killed with it, and on this host's own node the lock stays held until it is \
gone. SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 are passed on to the group; Ctrl-Z suspends both, and CMD is \
only continued if the lock is still held.

With several nodes (--endpoints a:7600,b:7600,c:7600) the session goes to another one when its own dies, and CMD runs on as \
long as the lease is held.

The lock is held while CMD itself runs. What CMD leaves running in the background is neither waited for nor covered.";

const AFTER: &str = "\
Examples:
  One at a time:              lockstead lock backup -- /usr/local/bin/backup
  Give up at once:            lockstead lock -n backup -- backup || echo somebody else is at it
  At most 1.5 s of waiting:   lockstead lock -w 1.5 -E 99 backup -- backup
  Readers together:           lockstead lock -s catalogue -- report
  A VMS mode:                 lockstead lock -m CW orders/page:5 -- batch
  The token as a fence:       lockstead lock ledger -- sh -c 'post --if-newer-than \"$LOCKSTEAD_TOKEN\"'

Exit status: that of CMD, 128 + n where signal n ended it; or
   1  not obtained with -n or -w (another code with -E)
  64  the command line makes no sense      69  no node reached, or it may not decide now
  75  victim of a deadlock, try again      77  not allowed
 126  CMD cannot be run                   127  CMD not found
 120  the lock was lost or doubtful and CMD was stopped; overrides all others";

/// Options of `lockstead lock`.
#[derive(Debug, clap::Args)]
#[command(long_about = LONG, after_long_help = AFTER)]
pub(crate) struct Args {
    #[command(flatten)]
    mode: ModeArgs,
    /// Do not wait: exit 1 where the lock is not to be had at once
    ///
    /// Each node is tried once: where none may decide, that is said at once, with status 69.
    #[arg(short = 'n', long, conflicts_with = "wait")]
    nowait: bool,
    /// Wait at most so long, connecting included; fractions allowed, 0 is -n
    ///
    /// Without it the lock is waited for as long as it takes, and connecting gives up after 5 s.
    #[arg(short = 'w', long, value_name = "SEC", value_parser = seconds, allow_negative_numbers = true)]
    wait: Option<Duration>,
    /// What to exit with where the lock is not obtained
    #[arg(short = 'E', long, value_name = "CODE", default_value_t = 1)]
    conflict_exit_code: u8,
    #[command(flatten)]
    space: SpaceArgs,
    /// The lease: for how long the lock outlives a broken connection, or this host
    ///
    /// The node keeps it within its limits, by default 0.5 s to 1 h.
    #[arg(long, value_name = "SEC", value_parser = lease, default_value = "10", allow_negative_numbers = true)]
    ttl: Duration,
    /// What for: shown to whoever asks who holds the lock
    #[arg(long, value_name = "TEXT", default_value = "")]
    purpose: String,
    #[command(flatten)]
    connect: ConnectArgs,
    /// What to lock; %XX is any byte
    #[arg(value_parser = name)]
    name: Name,
    /// What to run
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// The mode, said in one of four ways.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
struct ModeArgs {
    /// Share the lock with others who do (PR in the lockspace `default`)
    #[arg(short, long)]
    shared: bool,
    /// Alone among those who may write, beside readers that do not mind (PW)
    #[arg(short, long)]
    update: bool,
    /// Alone (EX); this is what no option means
    #[arg(short = 'x', long)]
    exclusive: bool,
    /// Any mode of the lockspace
    #[arg(short, long, value_name = "MODE")]
    mode: Option<String>,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Outcome {
    runtime::run(lock(args))
}

async fn lock(args: &Args) -> Outcome {
    let mut signals = Signals::take_over()?;
    let until = args.wait().map(|wait| Instant::now() + wait);
    let client = tokio::select! {
        signal = signals.next() => return Ok(exit_of(signal)),
        client = connect(args) => client?,
    };
    let obtained = tokio::select! {
        signal = signals.next() => Err(Failure { exit: exit_of(signal), message: String::new() }),
        obtained = obtain(args, &client, until) => obtained,
    };
    let outcome = match obtained {
        Ok(guard) => hold::run_under(args, &client, guard, &mut signals).await,
        Err(failure) => Err(failure),
    };
    // What was released is acknowledged already, and what was not ends with the lease at the latest.
    let _ = tokio::time::timeout(GOODBYE, client.close()).await;
    outcome
}

async fn connect(args: &Args) -> Result<Client, Failure> {
    let within = args.wait().unwrap_or(CONNECT_FOR).max(CONNECT_LEAST);
    let program = args.command.first().map(|program| Path::new(program).file_name().unwrap_or(program));
    let program = program.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let builder = builder(&args.connect, within).ttl(args.ttl).program(program).purpose(&args.purpose);
    let builder = if args.nowait() { builder.try_each_once() } else { builder };
    let builder = match outer() {
        Some(session) => builder.within(session),
        None => builder,
    };
    builder.connect().await.map_err(|error| explain(error, &About::Service))
}

/// The session of the wrapper whose command this is. Whatever else stands there is somebody else's.
fn outer() -> Option<SessionId> {
    std::env::var(SESSION).ok().as_deref().and_then(SessionId::parse)
}

async fn obtain(args: &Args, client: &Client, until: Option<Instant>) -> Result<Guard, Failure> {
    let left = || until.map(|until| until.saturating_duration_since(Instant::now()));
    let deadline = left().map_or(CONNECT_FOR, |left| left.max(CONNECT_LEAST));
    let opened = tokio::time::timeout(deadline, space(client, &args.space.space)).await;
    let space = opened.map_err(|_| Exit::Unavailable.because("the node does not answer"))??;
    let mode = args.mode.text(&space);
    let request = args.mode.of(client.lock(&args.name.0), &space)?.space(&space).owned_by_session();
    let granted = match (args.nowait(), left()) {
        (true, _) => {
            request.try_now().await.and_then(|guard| guard.ok_or(Error::Refused(lockstead::Refusal::WouldWait)))
        }
        // The node counts the wait. A node that says nothing must not make it longer.
        (false, Some(left)) => match tokio::time::timeout(left + GOODBYE, request.wait(left)).await {
            Ok(granted) => granted,
            Err(_) => return Err(Exit::Unavailable.because("the node does not answer")),
        },
        (false, None) => request.forever().await,
    };
    granted.map_err(|error| {
        let about = About::Lock { space: &space, name: &args.name.to_string(), mode: &mode };
        let mut failure = explain(error, &about);
        if failure.exit == Exit::NotObtained(1) {
            failure.exit = Exit::NotObtained(args.conflict_exit_code);
        }
        failure
    })
}

impl Args {
    /// How long to wait; `None` where that is not bounded, or there is no wait.
    fn wait(&self) -> Option<Duration> {
        self.wait.filter(|wait| !wait.is_zero())
    }

    fn nowait(&self) -> bool {
        self.nowait || self.wait.is_some_and(|wait| wait.is_zero())
    }
}

impl ModeArgs {
    /// The mode's name, for people.
    fn text(&self, space: &Space) -> String {
        let modes = space.modes();
        let chosen = match &self.mode {
            Some(mode) => return mode.clone(),
            None if self.shared => modes.shared(),
            None if self.update => modes.update(),
            None => modes.exclusive(),
        };
        modes.mode_name(chosen).to_owned()
    }

    fn of<'a, N: AsRef<[u8]>>(
        &self,
        request: LockBuilder<'a, N>,
        space: &Space,
    ) -> Result<LockBuilder<'a, N>, Failure> {
        let mode = self.text(space);
        if space.modes().parse(&mode).is_none() {
            let has = crate::connect::mode_names(space);
            return Err(
                Exit::Usage.because(format!("lockspace {:?} has no mode {mode:?}; it has: {has}", space.name()))
            );
        }
        Ok(request.mode(&mode))
    }
}
