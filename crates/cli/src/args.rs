//! The command line: every command, and the options that several share.

use core::time::Duration;

use clap::{Parser, Subcommand};

use crate::{admin, bench, completions, dev, lock, look, server, shell};

/// How long connecting may take where nothing else bounds it.
pub(crate) const CONNECT_FOR: Duration = Duration::from_secs(5);

/// The command line of `lockstead`.
#[derive(Debug, Parser)]
#[command(
    name = "lockstead",
    version,
    about = "A distributed lock manager: locks with fencing tokens, fair queues, leases",
    long_about = "A distributed lock manager: locks with fencing tokens, fair queues, leases.\n\n\
        In one terminal, start a node:\n\n    lockstead dev\n\n\
        In another, hold a lock while a command runs, and look at it:\n\n    \
        lockstead lock orders -- sh -c 'echo I hold $LOCKSTEAD_NAME, token $LOCKSTEAD_TOKEN; sleep 60'\n    \
        lockstead ls\n    lockstead tree",
    after_long_help = EXIT_STATUS,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_STATUS: &str = "\
Exit status of every command:
   0  done
   1  the lock was not obtained (another code with `lock -E`); or: looked for and not there
  64  the command line, or a name, mode or lockspace in it, makes no sense
  69  no node could be reached, or it may not decide now, or one of its limits was reached
  70  something that should not happen
  75  victim of a deadlock: release what you hold, try again
  77  not allowed
 120  the lock was lost, and the command under it was stopped

Names are raw bytes; %XX stands for any byte, as in printed names.";

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a ready node on this machine, for trying out and for tests
    Dev(dev::Args),
    /// Run a node
    Server(Box<server::Args>),
    /// Hold a lock while a command runs
    Lock(lock::Args),
    /// List resources that have locks
    Ls(look::ls::Args),
    /// Show the queues of one resource
    Show(look::show::Args),
    /// Show who waits for whom
    Tree(look::tree::Args),
    /// List sessions
    Sessions(look::sessions::Args),
    /// Show deadlocks that were found, and who paid
    Deadlocks(look::deadlocks::Args),
    /// List nodes
    Nodes(look::nodes::Args),
    /// Show what a node says of itself
    Status(look::status::Args),
    /// Print changes as they happen
    Watch(look::watch::Args),
    /// Print the newest token given: the cluster's clock
    Scn(look::scn::Args),
    /// Take a lock from its holder
    Release(admin::release::Args),
    /// Form a cluster, look at its members, change who they are
    Cluster(admin::cluster::Args),
    /// Create, list, show and drop lockspaces
    Lockspace(admin::lockspace::Args),
    /// Many sessions in one terminal or script
    Shell(shell::Args),
    /// Measure
    Bench(bench::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
}

/// Where the service is.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ConnectArgs {
    /// Nodes to talk to, separated by commas: HOST:PORT, tcp://HOST:PORT or unix:PATH
    ///
    /// One HOST:PORT on this host means the Unix socket of the node there, if it exists: the session is then local, and
    /// ends the moment this process does. Several nodes, another host or tcp:// mean TCP: the session is remote and
    /// lives until its lease runs out, also through a broken connection.
    ///
    /// Several are nodes of one cluster. A session begins at one of them, by chance, and stays there while it works; when that
    /// node dies, is silent or turns it away, it goes to the next one with all its locks, within its lease.
    #[arg(long, value_name = "ADDRESS", env = "LOCKSTEAD_ENDPOINTS", default_value = lockstead::endpoint::DEFAULT)]
    pub(crate) endpoints: String,
}

impl ConnectArgs {
    /// Whether they are several nodes, so of a cluster.
    pub(crate) fn are_several(&self) -> bool {
        self.endpoints.split(',').filter(|entry| !entry.trim().is_empty()).count() > 1
    }
}

/// Which lockspace.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SpaceArgs {
    /// The lockspace
    #[arg(short = 'L', long = "lockspace", value_name = "LOCKSPACE", default_value = "default")]
    pub(crate) space: String,
}

/// What an operator says beside what changes for others.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ReasonArgs {
    /// Why, for the record
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) reason: String,
}

/// Reads a number of seconds, fractions allowed.
///
/// # Errors
/// What is wrong with the text.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 =
        text.strip_suffix('s').unwrap_or(text).parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(number).map_err(|_| "not a span of time".to_owned())
}

/// Reads the length of a lease.
///
/// # Errors
/// What is wrong with the text.
pub(crate) fn lease(text: &str) -> Result<Duration, String> {
    let lease = seconds(text)?;
    if lease.is_zero() { Err("a lease that is over at once holds nothing".into()) } else { Ok(lease) }
}

/// Reads a name: `%XX` is one byte, everything else stands for itself.
///
/// # Errors
/// What is wrong with the text.
pub(crate) fn name(text: &str) -> Result<Name, String> {
    match lockstead_types::name::unescape(text) {
        Some(bytes) if bytes.is_empty() => Err("a name has at least one byte".into()),
        Some(bytes) => Ok(Name(bytes)),
        None => Err("a % is followed by two hexadecimal digits; the sign itself is written %25".into()),
    }
}

/// The bytes of a resource's name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Name(pub(crate) Vec<u8>);

impl core::fmt::Display for Name {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&lockstead_types::name::escape(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn seconds_may_be_fractions() {
        assert_eq!(seconds("0.25"), Ok(Duration::from_millis(250)));
        assert_eq!(seconds("2s"), Ok(Duration::from_secs(2)));
        for text in ["", "x", "-1", "nan", "inf", "1e300"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_lease_has_a_length() {
        assert_eq!(lease("0.5"), Ok(Duration::from_millis(500)));
        assert!(lease("0").is_err());
    }

    #[test]
    fn names_are_bytes() {
        assert_eq!(name("a%00b"), Ok(Name(b"a\0b".to_vec())));
        assert!(name("").is_err());
        assert!(name("50%").is_err());
    }
}
