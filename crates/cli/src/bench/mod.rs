//! `lockstead bench`: the workloads by which lock services are compared, against a node or the embedded engine.

mod crew;
mod frames;
mod locker;
mod machine;
mod report;
mod run;
mod work;

use core::time::Duration;
use std::sync::Arc;

use clap::ValueEnum;

use crate::{
    args::ConnectArgs,
    exit::{Exit, Failure, Outcome},
    output::OutputArgs,
};

const LONG: &str = "\
Measure a node, or the embedded engine.

One op is an acquire plus a release.
  W1  one client, distinct locks one after another
  W2  many clients, random names
  W3  every client fights for one lock and holds it for no time; hand-offs and fairness
  W4  90 % shared, 10 % exclusive, over a thousand names
W3 and W4 also check that no two clients are inside together (violations). A lock held for no time leaves that check a short \
window: verify with --hold-us 1000, too.

Client and server share the machine's cores: ops/s is what the pair gets. On a virtual machine waking a halted core costs \
tens of microseconds; --awake keeps the cores polling. Compare figures of the same kind only.";

const AFTER: &str = "\
Examples:
  lockstead bench --workload W1
  lockstead bench --workload W2 --conns 1 --inflight 64 --seconds 5
  lockstead bench --workload W3 --clients 16 --hold-us 1000
  lockstead bench --workload W2 --embedded --clients 1

With -o json one object on one line, with the field names of the comparison harness (`peer` is `lockstead`): \"peer\", \
\"workload\", \"label\", \"clients\", \"conns\", \"names\", \"warm\", \"awake\", \"threads\", \"seconds\", \"hold_us\", \
\"ops_per_s\", \"acquire_us\", \"release_us\", \"p50_us\", \"p99_us\", \"p999_us\", \"max_us\", \"server_cpu_us_per_op\", \
\"client_cpu_us_per_op\", \"foreign_cpu\", \"failed_clients\", \"stuck_clients\", \"load1\", \"busy_before\"; W3 adds \
\"handoff_us\", \"handoffs_per_s\", \"takeover_wait_us\", \"grants_min\", \"grants_max\", \"fairness_max_over_min\", \
\"jain\", \"same_client_again\"; W4 adds \"exclusive_acquire_us\"; both add \"violations\", \"refused_tries\". Besides: \
\"inflight\", \"embedded\", \"release\", \"sample\" (every n-th op is timed), \"config\" (in words).

Exits 1 where mutual exclusion was violated or a client failed.";

/// Options of `lockstead bench`.
#[derive(Clone, Debug, clap::Args)]
#[command(long_about = LONG, after_long_help = AFTER)]
pub(crate) struct Args {
    /// What to do
    #[arg(long, value_enum, ignore_case = true)]
    workload: Workload,
    /// Clients, each with one op under way [default: W1 1, W2 64, W3 16, W4 64]
    #[arg(long, value_name = "N")]
    clients: Option<usize>,
    /// Connections they share [default: one each, or 1 with --inflight]
    #[arg(long, value_name = "N")]
    conns: Option<usize>,
    /// Ops under way on each connection: as many clients on each
    #[arg(long, value_name = "K")]
    inflight: Option<usize>,
    /// Names to choose from [default: W1 and W2 1,000,000, W3 1, W4 1,000]
    #[arg(long, value_name = "N")]
    names: Option<u64>,
    /// How long to measure
    #[arg(long, value_name = "S", default_value_t = 5.0)]
    seconds: f64,
    /// How long to run before that
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    warmup: f64,
    /// W3 and W4: hold each lock so long, in timer steps of 1 ms
    #[arg(long, value_name = "US", default_value_t = 0)]
    hold_us: u64,
    /// W2: hand-made frames over blocking sockets, a thread for each connection, instead of the client crate: what the node
    /// does when it is fed in batches
    #[arg(long, conflicts_with = "embedded")]
    frames: bool,
    /// The engine in this process instead of a node
    #[arg(long)]
    embedded: bool,
    /// How a lock is released: waiting for the acknowledgement or not [default: W1 one-way, others acked]
    #[arg(long, value_enum)]
    release: Option<Release>,
    /// Threads of this program, each with its own connections [default: 1 to a node, 2 with --embedded]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Time one op in N; all are counted [default: 1, 8 with --inflight, 16 with --embedded]
    #[arg(long, value_name = "N")]
    sample: Option<u64>,
    /// Keep idle cores polling instead of halting (root)
    #[arg(long)]
    awake: bool,
    /// Wait so long at most until the machine is quiet
    #[arg(long, value_name = "S", default_value_t = 0.0)]
    wait: f64,
    /// The node's process, for its CPU time [default: who listens there, on this host]
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
    /// What to call this run in tables [default: the configuration in words]
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// What the clients do.
#[derive(Copy, Clone, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Workload {
    /// One client, distinct locks one after another
    #[value(name = "W1")]
    W1,
    /// Random names
    #[value(name = "W2")]
    W2,
    /// One lock for all
    #[value(name = "W3")]
    W3,
    /// 90 % shared
    #[value(name = "W4")]
    W4,
}

/// How a lock is released.
#[derive(Copy, Clone, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Release {
    /// The release is on its way
    OneWay,
    /// The node has said that it is released
    Acked,
}

/// A run with every choice made.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) workload: Workload,
    pub(crate) clients: usize,
    pub(crate) conns: usize,
    pub(crate) names: u64,
    pub(crate) seconds: f64,
    pub(crate) warmup: f64,
    pub(crate) hold: Duration,
    pub(crate) embedded: bool,
    pub(crate) frames: bool,
    pub(crate) release: Release,
    pub(crate) threads: usize,
    pub(crate) sample: u64,
    pub(crate) awake: bool,
    pub(crate) server_pid: Option<u32>,
    pub(crate) label: Option<String>,
    pub(crate) connect: ConnectArgs,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Outcome {
    let plan = Arc::new(args.plan()?);
    let load = machine::load1();
    let busy = machine::wait_quiet(Duration::try_from_secs_f64(args.wait).unwrap_or_default());
    let _awake = if plan.awake { Some(machine::Awake::start()?) } else { None };
    let measured = run::measure(&plan)?;
    let mut line = report::json(&plan, &measured);
    line["load1"] = load.into();
    line["busy_before"] = report::rounded(busy, 3).into();
    args.output.print(|| line.clone(), || report::text(&line))?;
    if measured.violations > 0 || !measured.errors.is_empty() || measured.stuck > 0 {
        return Ok(Exit::NotObtained(1));
    }
    Ok(Exit::Success)
}

impl Args {
    fn plan(&self) -> Result<Plan, Failure> {
        let (clients, names) = match self.workload {
            Workload::W1 => (1, 1_000_000),
            Workload::W2 => (64, 1_000_000),
            Workload::W3 => (16, 1),
            Workload::W4 => (64, 1_000),
        };
        let (clients, conns) = match self.inflight {
            Some(inflight) => {
                let conns = self.conns.unwrap_or(1);
                (conns.saturating_mul(inflight), conns)
            }
            None => {
                let clients = self.clients.unwrap_or(clients);
                (clients, self.conns.unwrap_or(clients))
            }
        };
        let usage = |why: &str| Err(Exit::Usage.because(why));
        if self.inflight.is_some() && self.clients.is_some_and(|asked| asked != clients) {
            return usage("--clients is --conns times --inflight: leave it out, or say the same");
        }
        if clients == 0 || conns == 0 || conns > clients || clients > 1_000_000 {
            return usage("there must be 1 to 1,000,000 clients, and no more connections than clients");
        }
        let names = self.names.unwrap_or(names);
        let spans = [self.seconds, self.warmup, self.wait];
        if names == 0
            || self.sample == Some(0)
            || spans.iter().any(|s| !(0.0..=86_400.0).contains(s))
            || self.seconds == 0.0
        {
            return usage("--names, --sample and --seconds are above zero, and spans at most a day");
        }
        if self.frames && self.workload != Workload::W2 {
            return usage("--frames is for W2");
        }
        if self.workload == Workload::W4 && names > 100_000_000 {
            return usage("W4 counts who is inside for each name: at most 100,000,000 names");
        }
        let many = self.embedded && self.workload != Workload::W1;
        Ok(Plan {
            workload: self.workload,
            clients,
            conns,
            names: if self.workload == Workload::W3 { 1 } else { names },
            seconds: self.seconds,
            warmup: self.warmup,
            hold: Duration::from_micros(self.hold_us),
            embedded: self.embedded,
            frames: self.frames,
            release: self.release.unwrap_or(match self.workload {
                Workload::W1 => Release::OneWay,
                _ => Release::Acked,
            }),
            threads: if self.frames { conns } else { self.threads.unwrap_or(if many { 2 } else { 1 }).clamp(1, conns) },
            sample: self.sample.unwrap_or(if self.embedded { 16 } else { 1 + u64::from(self.inflight.is_some()) * 7 }),
            awake: self.awake,
            server_pid: self.server_pid,
            label: self.label.clone(),
            connect: self.connect.clone(),
        })
    }
}
