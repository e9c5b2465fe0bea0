//! Connecting, and what to tell a user where the service says no.

use core::time::Duration;

use lockstead::{Client, ClientBuilder, Error, Lost, Space, Trouble};
use lockstead_types::{Refusal, limits::VALUE_BYTES_CEILING, message::Rejection, tables::BUILT_IN};

use crate::{
    args::{CONNECT_FOR, ConnectArgs},
    exit::{Exit, Failure},
};

/// A client that only looks or administers.
///
/// # Errors
/// [`Exit::Unavailable`] where no node can be reached in time.
pub(crate) async fn connect(args: &ConnectArgs) -> Result<Client, Failure> {
    let client = builder(args, CONNECT_FOR).connect().await;
    client.map_err(|error| explain(error, &About::Service))
}

/// How to connect; the caller adds what it says of itself.
pub(crate) fn builder(args: &ConnectArgs, within: Duration) -> ClientBuilder {
    Client::builder().endpoints(&args.endpoints).connect_timeout(within).program("lockstead")
}

/// A lockspace by name.
///
/// # Errors
/// [`Exit::Usage`] where there is none.
pub(crate) async fn space(client: &Client, name: &str) -> Result<Space, Failure> {
    client.space(name).await.map_err(|error| explain(error, &About::Space(name)))
}

/// What a request was about, so that a refusal of it can be explained.
#[derive(Debug)]
pub(crate) enum About<'a> {
    /// Nothing in particular.
    Service,
    /// A lockspace of this name.
    Space(&'a str),
    /// A lock on this name, written as for people.
    Lock {
        /// The lockspace.
        space: &'a Space,
        /// The resource.
        name: &'a str,
        /// The mode asked for.
        mode: &'a str,
    },
}

/// An error in words for people, with what to do about it, and the status to exit with.
pub(crate) fn explain(error: Error, about: &About<'_>) -> Failure {
    match error {
        Error::Refused(why) => Failure { exit: status_of(why), message: refused(why, about) },
        Error::Lost(Lost::Deadline) => {
            Exit::Unavailable.because("the node did not answer until the lease ran out; is it running?")
        }
        Error::Lost(why) => Exit::Unavailable.because(format!("the session was {why}")),
        error if is_without_majority(&error) => Exit::Unavailable.because(format!(
            "{error}\n  Too few of its members reach each other; bring back those that are down. The page on operations says what to do if \
             they are gone for good."
        )),
        error @ Error::Connect { .. } => Exit::Unavailable.because(format!(
            "{error}\n  Is a node running there? `lockstead dev` starts one; \
             --endpoints or LOCKSTEAD_ENDPOINTS says where it is."
        )),
        Error::Rejected(why) => {
            let exit = if why == Rejection::Denied { Exit::Denied } else { Exit::Unavailable };
            exit.because(format!("turned away by the node: {}", why.text()))
        }
        Error::Config(what) => Exit::Usage.because(what),
        other => Exit::Failed.because(other.to_string()),
    }
}

/// Whether a node is there that has no majority.
fn is_without_majority(error: &Error) -> bool {
    match error {
        Error::Connect { tried } => tried.iter().any(|t| matches!(t.why, Trouble::Rejected(Rejection::NoAuthority))),
        Error::Rejected(why) => *why == Rejection::NoAuthority,
        _ => false,
    }
}

fn status_of(why: Refusal) -> Exit {
    match why {
        Refusal::WouldWait | Refusal::Timeout | Refusal::NotHeld | Refusal::Exists | Refusal::Busy => {
            Exit::NotObtained(1)
        }
        Refusal::BadMode | Refusal::TooLong | Refusal::Invalid | Refusal::NoLockspace => Exit::Usage,
        Refusal::Limit(_) | Refusal::NoQuorum | Refusal::Lost => Exit::Unavailable,
        Refusal::Deadlock => Exit::Deadlock,
        Refusal::Denied => Exit::Denied,
        Refusal::Phase | Refusal::Intent { .. } | Refusal::Sublocks | Refusal::Aborted => Exit::Failed,
    }
}

fn refused(why: Refusal, about: &About<'_>) -> String {
    match (why, about) {
        (Refusal::NoLockspace, About::Space(name)) => format!(
            "there is no lockspace {name:?}\n  `lockstead lockspace ls` lists them, `lockstead lockspace create {name}` \
             makes it."
        ),
        (Refusal::Exists, About::Space(name)) => format!("there is a lockspace {name:?} already"),
        (Refusal::Busy, About::Space(name)) => {
            format!(
                "lockspace {name:?} holds locks\n  `lockstead ls -L {name}` shows them; --force drops it all the same."
            )
        }
        (Refusal::BadMode, About::Lock { space, mode, .. }) => format!(
            "{mode:?} is no mode of lockspace {:?}, or cannot be asked for beside the modes held; it has: {}",
            space.name(),
            mode_names(space)
        ),
        (Refusal::WouldWait, About::Lock { space, name, mode }) => {
            format!(
                "{name}: {mode} not obtained: somebody else has it or came first (`lockstead show{} {name}` shows who)",
                in_space(space)
            )
        }
        (Refusal::Timeout, About::Lock { name, mode, .. }) => format!("{name}: {mode} not obtained in time"),
        (Refusal::Deadlock, About::Lock { name, .. }) => {
            format!(
                "{name}: refused as the victim of a deadlock (`lockstead deadlocks` shows it); try again once the locks held \
                 around this are released"
            )
        }
        (Refusal::TooLong, About::Lock { name, .. }) => {
            let start: String = name.chars().take(40).collect();
            format!("{start}...: the name is longer than the node allows (`name_bytes` in its configuration)")
        }
        (Refusal::Invalid, About::Space("default")) => "the lockspace `default` cannot be dropped".to_owned(),
        (Refusal::Invalid, About::Space(name)) if name.bytes().all(|b| b.is_ascii_graphic()) && !name.is_empty() => {
            format!(
                "lockspace {name:?}: refused: only a cluster keeps persistent ones, and the node that answers is no member of one"
            )
        }
        (Refusal::Invalid, About::Space(name)) => {
            format!("{name:?} is no name for a lockspace: 1 to 64 visible ASCII characters, no spaces")
        }
        (Refusal::TooLong, About::Space(name)) => format!(
            "lockspace {name:?}: refused: its name has at most 64 characters, its value blocks at most \
             {VALUE_BYTES_CEILING} bytes, 1,024 where it is persistent"
        ),
        (Refusal::BadMode, About::Space(name)) => format!(
            "lockspace {name:?}: the node has no such mode table; built in are {}, others are in its configuration",
            BUILT_IN.join(" ")
        ),
        (Refusal::Limit(limit), _) => {
            format!("refused: the node's limit {limit} is reached (`lockstead status` shows its counts)")
        }
        (why, About::Lock { name, .. }) => format!("{name}: refused: {why}"),
        (why, About::Space(name)) => format!("lockspace {name:?}: refused: {why}"),
        (why, About::Service) => format!("refused: {why}"),
    }
}

/// The option that names the lockspace, where it is not the usual one.
fn in_space(space: &Space) -> String {
    if space.name() == "default" { String::new() } else { format!(" -L {}", space.name()) }
}

/// The modes of a lockspace, weakest first.
pub(crate) fn mode_names(space: &Space) -> String {
    let modes = space.modes();
    modes.modes().map(|mode| modes.mode_name(mode)).collect::<Vec<_>>().join(" ")
}
