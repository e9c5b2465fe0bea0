//! `lockstead server`: one node, configured by a file, the environment and flags.

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::{
    ffi::OsString, io::IsTerminal as _, os::unix::process::CommandExt as _, path::PathBuf, process::Command,
    sync::OnceLock,
};

use clap::{Arg, ArgMatches, FromArgMatches, value_parser};
use lockstead_server::{
    Cancel, ConfigError, Failed, FileConfig, Server, ServerConfig, StartError,
    config::{KEYS, limit_keys},
};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::{
    Layer as _, filter::dynamic_filter_fn, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use crate::{
    exit::{Exit, Failure, Outcome},
    output::write_out,
    runtime,
};

const LONG: &str = "\
Run a node.

Every key of the configuration file is also a flag (--client-tcp for client_tcp) and an environment variable \
(LOCKSTEAD_CLIENT_TCP); limits are --limit-NAME and LOCKSTEAD_LIMIT_NAME. Flags win over the environment, the environment \
over the file. Lockspaces and mode tables are configured in the file alone.

Prints `node 1 pid 4711 client ADDRESS admin URL` and then `ready` once clients can connect. SIGTERM and SIGINT stop it \
gracefully.

\
With --peer-listen the node is a member of a cluster. The first members are given the same --seats and form the cluster when all \
of them are there; a node that joins later has none, and says how to let it in. SIGTERM hands the node's slots over to others before \
it stops, for 8 s at most; SIGINT, or a second SIGTERM, does not wait for that. A node that was not heard of for too long, \
and whose place others have taken, starts itself again.";

const AFTER: &str = "\
Example of a file:
  node = 1
  client_tcp = \"127.0.0.1:7600\"
  client_unix = \"/run/lockstead/7600.sock\"
  admin = \"127.0.0.1:7602\"
  data = \"/var/lib/lockstead\"

  [limits]
  ttl_max = \"10m\"

  [[lockspace]]
  name = \"tables\"
  modes = \"granular\"
  policy = \"fair\"

Clients of this host find the Unix socket by the port: ${LOCKSTEAD_RUN_DIR:-/tmp/lockstead-UID}/PORT.sock. It is there by \
default where client_tcp is given and client_unix is not.";

/// Whether this process was asked to stop.
static STOPPING: AtomicBool = AtomicBool::new(false);

/// Options of `lockstead server`, the keys of the configuration among them.
#[derive(Debug)]
pub(crate) struct Args {
    file: Option<PathBuf>,
    log: String,
    flags: Vec<(String, String)>,
}

/// Runs the node until it is told to stop.
pub(crate) fn run(args: &Args) -> Outcome {
    start_log(&args.log)?;
    let config = config(args)?;
    runtime::run(serve(config))
}

async fn serve(config: ServerConfig) -> Outcome {
    // Before the node runs, so that no signal finds it unprepared.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let node = config.node;
    let cancel = Cancel::default();
    let start = {
        let cancel = cancel.clone();
        tokio::task::spawn_blocking(move || Server::start_unless(config, &cancel))
    };
    tokio::pin!(start);
    // A member of a cluster waits for the others.
    let started = loop {
        tokio::select! {
            started = &mut start => break started,
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        STOPPING.store(true, Relaxed);
        cancel.cancel();
    };
    let started = started.map_err(|error| Exit::Failed.because(error.to_string()))?;
    let running = match started {
        Ok(running) => running,
        Err(StartError::Cancelled) => return Ok(Exit::Success),
        Err(why @ StartError::Overtaken) => return Err(start_anew(&why)),
        Err(error @ StartError::Config(_)) => return Err(Exit::Usage.because(error.to_string())),
        Err(error) => return Err(Exit::Unavailable.because(error.to_string())),
    };
    let client = match (running.client_tcp(), running.client_unix()) {
        (Some(address), _) => address.to_string(),
        (None, Some(path)) => format!("unix:{}", path.display()),
        (None, None) => "-".to_owned(),
    };
    let admin = running.admin().map_or_else(|| "-".to_owned(), |address| format!("http://{address}"));
    write_out(&format!("node {node} pid {} client {client} admin {admin}\nready\n", std::process::id()))?;
    let stopper = running.stopper();
    let mut over = tokio::task::spawn_blocking(|| running.wait());
    let mut leaving = false;
    loop {
        tokio::select! {
            ended = &mut over => {
                let ended = ended.map_err(|error| Exit::Failed.because(error.to_string()))?;
                return match ended {
                    Ok(()) => Ok(Exit::Success),
                    Err(why @ Failed::Out) => Err(start_anew(&why)),
                    Err(failed @ Failed::Broken(_)) => Err(Exit::Failed.because(failed.to_string())),
                };
            }
            _ = terminate.recv() => {
                STOPPING.store(true, Relaxed);
                tracing::info!("stopping");
                // A second one cuts handing over short.
                if core::mem::replace(&mut leaving, true) { stopper.stop() } else { stopper.leave() }
            }
            _ = interrupt.recv() => {
                STOPPING.store(true, Relaxed);
                tracing::info!("stopping");
                stopper.stop();
            }
        }
    }
}

/// Puts a new start of this program in its own place, as the same process: the cluster has gone on without this one, and takes
/// a new one in. Returns only where that is not possible.
fn start_anew(why: &dyn core::error::Error) -> Failure {
    tracing::warn!("starting again: {why}");
    let mut words = std::env::args_os();
    let _name = words.next();
    let program = std::env::current_exe();
    let error = program.map_or_else(|error| error, |program| Command::new(program).args(words).exec());
    Exit::Failed.because(format!("{why}, and cannot be started again: {error}"))
}

fn config(args: &Args) -> Result<ServerConfig, Failure> {
    let usage = |error: ConfigError| Exit::Usage.because(error.to_string());
    let mut config = FileConfig::default();
    if let Some(path) = &args.file {
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|error| Exit::Usage.because(format!("{}: {error}", path.display())))?;
        config =
            FileConfig::parse(&text).map_err(|error| Exit::Usage.because(format!("{}: {error}", path.display())))?;
    }
    config = config.overlaid(FileConfig::from_env(|name| std::env::var(name).ok()).map_err(usage)?);
    let mut flags = FileConfig::default();
    for (key, value) in &args.flags {
        flags.set(key, value).map_err(usage)?;
    }
    config = config.overlaid(flags);
    // The convention by which clients of this host find the socket.
    if let (Some(address), None) = (config.client_tcp, &config.client_unix)
        && address.port() != 0
    {
        lockstead::endpoint::prepare_run_dir().map_err(|error| Exit::Unavailable.because(error.to_string()))?;
        config.client_unix = Some(lockstead::endpoint::socket_path(address.port()));
    }
    config.check().map_err(usage)
}

fn start_log(filter: &str) -> Result<(), Failure> {
    // The consensus library warns of each sign of life that a dead node does not answer.
    let filter = tracing_subscriber::EnvFilter::try_new(format!("openraft=error,{filter}"));
    let filter = filter.map_err(|error| Exit::Usage.because(format!("--log: {error}")))?;
    let ansi = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(ansi);
    // In an orderly stop the library complains of each call that finds it stopped already, which is no error of anybody.
    let wanted = dynamic_filter_fn(|event, _| !event.target().starts_with("openraft") || !STOPPING.load(Relaxed));
    tracing_subscriber::registry().with(filter).with(lines.with_filter(wanted)).init();
    Ok(())
}

/// Every key with its flag and its help, for as long as the process lives: clap wants them so.
fn keys() -> &'static [(String, String, String)] {
    static ALL: OnceLock<Vec<(String, String, String)>> = OnceLock::new();
    ALL.get_or_init(|| {
        let plain = KEYS.iter().map(|(key, help)| ((*key).to_owned(), (*help).to_owned()));
        let limits = limit_keys().into_iter().map(|limit| (format!("limit_{limit}"), format!("the limit `{limit}`")));
        plain.chain(limits).map(|(key, help)| (key.replace('_', "-"), key, help)).collect()
    })
}

impl clap::Args for Args {
    fn augment_args(command: clap::Command) -> clap::Command {
        let command = command.long_about(LONG).after_long_help(AFTER);
        let file = Arg::new("config").long("config").value_name("FILE").value_parser(value_parser!(PathBuf));
        let log = Arg::new("log").long("log").value_name("FILTER").env("LOCKSTEAD_LOG").default_value("info");
        let command = command
            .arg(file.help("Configuration file (TOML)"))
            .arg(log.help("What to log to standard error: error, warn, info, debug, trace, or target=level,..."));
        keys().iter().fold(command, |command, (flag, key, help)| {
            let arg = Arg::new(key.as_str()).long(flag.as_str()).help(help.as_str()).value_name("VALUE");
            let arg = if key.starts_with("limit_") { arg.hide_short_help(true) } else { arg };
            // A switch may be given without a value.
            let switch = key == "insecure_plaintext";
            command.arg(if switch { arg.num_args(0..=1).default_missing_value("true") } else { arg.num_args(1) })
        })
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Args {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Args, clap::Error> {
        let value = |key: &str| matches.get_one::<String>(key).cloned();
        Ok(Args {
            file: matches.get_one("config").cloned(),
            log: value("log").unwrap_or_default(),
            flags: keys().iter().filter_map(|(_, key, _)| Some((key.clone(), value(key)?))).collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Args::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The command line that starts a node with these keys.
pub(crate) fn command_line(program: &str, keys: &[(&str, String)]) -> Vec<OsString> {
    let mut words: Vec<OsString> = vec![program.into(), "server".into()];
    for (key, value) in keys {
        words.push(format!("--{}", key.replace('_', "-")).into());
        words.push(value.into());
    }
    words
}
