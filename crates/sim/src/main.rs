//! The command line of the simulator: many seeds on all cores, or one with its trace. `cargo xtask sim` builds and runs it.

use core::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use std::{process::ExitCode, sync::Mutex, time::Instant};

use lockstead_sim::{Options, Outcome, catch_panics, run, shrink};

const HELP: &str = "\
cargo xtask sim [OPTION ...]

  --seeds N      how many seeds (1000)
  --minutes M    stop after so many minutes, whatever is left
  --least N      but not before so many seeds
  --from SEED    the first seed (0)
  --seed SEED    this one alone
  --trace        with --seed: every event as a line
  --shrink       with --seed: leave out faults, clients and time while it still fails
  --set O=N      change an option of every seed, as they are printed: --set clients=2 --set cut=0
  --twice        run every seed twice and compare the traces
  --mutations    plant one bug after the other and say after how many seeds each is caught
  --bug NAME     with --mutations: those alone whose names contain this
  --keep-going   do not stop at the first violation
";

#[derive(Default)]
struct Args {
    seeds: Option<u64>,
    minutes: Option<u64>,
    least: u64,
    from: u64,
    seed: Option<u64>,
    trace: bool,
    shrink: bool,
    twice: bool,
    keep_going: bool,
    mutations: bool,
    bug: String,
    set: Vec<String>,
}

/// What all runs came to.
#[derive(Default)]
struct Sum {
    seeds: u64,
    bad: u64,
    events: u64,
    seconds: u64,
    faults: u64,
    grants: u64,
    applied: u64,
    refused: u64,
    cycles: u64,
}

fn main() -> ExitCode {
    let args = match parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(why) => {
            eprintln!("{why}\n\n{HELP}");
            return ExitCode::from(64);
        }
    };
    catch_panics();
    let outcome = match args.seed {
        _ if args.mutations => planted(&args),
        Some(seed) => one(seed, &args),
        None => many(&args),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(64)
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Args, String> {
    let mut args = Args::default();
    while let Some(word) = words.next() {
        let mut number = || -> Result<u64, String> {
            let text = words.next().ok_or_else(|| format!("{word}: a number is wanted"))?;
            text.parse().map_err(|_| format!("{word}: {text} is no number"))
        };
        match word.as_str() {
            "--seeds" => args.seeds = Some(number()?),
            "--minutes" => args.minutes = Some(number()?),
            "--least" => args.least = number()?,
            "--from" => args.from = number()?,
            "--seed" => args.seed = Some(number()?),
            "--trace" => args.trace = true,
            "--shrink" => args.shrink = true,
            "--twice" => args.twice = true,
            "--mutations" => args.mutations = true,
            "--keep-going" => args.keep_going = true,
            "--bug" => args.bug = words.next().ok_or("--bug: a name is wanted")?,
            "--set" => args.set.push(words.next().ok_or("--set: an option is wanted")?),
            "--help" | "-h" => return Err(String::new()),
            other => return Err(format!("there is no option {other}")),
        }
    }
    Ok(args)
}

fn options(seed: u64, args: &Args) -> Result<Options, String> {
    let mut options = Options::of(seed);
    for text in &args.set {
        options.set(text)?;
    }
    Ok(options)
}

fn one(seed: u64, args: &Args) -> Result<bool, String> {
    let mut options = options(seed, args)?;
    if args.shrink {
        options = shrink(&options);
        println!("shrunk: {options}");
    }
    let outcome = run(&options, args.trace);
    for line in &outcome.lines {
        println!("{line}");
    }
    println!("seed {seed}: {} events, {} grants, trace {:016x}", outcome.events, outcome.grants, outcome.hash);
    tell(&outcome);
    Ok(outcome.violation.is_none())
}

#[cfg(feature = "planted")]
fn planted(args: &Args) -> Result<bool, String> {
    options(0, args)?;
    let draw = |seed| options(seed, args).unwrap_or_else(|_| Options::of(seed));
    let hunt = lockstead_sim::Hunt { from: args.from, most: args.seeds, name: args.bug.clone() };
    Ok(lockstead_sim::mutations(&hunt, &draw))
}

#[cfg(not(feature = "planted"))]
fn planted(_args: &Args) -> Result<bool, String> {
    Err("built without the feature `planted`: cargo xtask sim --mutations".into())
}

fn tell(outcome: &Outcome) {
    if let Some(violation) = &outcome.violation {
        let code = violation.code;
        println!("seed {}: {code:?} ({})", outcome.options.seed, code.statement());
        println!("  {}", violation.what);
        println!("  {}", outcome.options);
        println!("  again: cargo xtask sim --seed {} --trace", outcome.options.seed);
    }
}

fn many(args: &Args) -> Result<bool, String> {
    options(0, args)?;
    let begin = Instant::now();
    let limit = args.minutes.map(|minutes| Duration::from_secs(60 * minutes));
    let seeds = args.seeds.unwrap_or(if limit.is_some() { u64::MAX } else { 1_000 });
    let (next, stop) = (AtomicU64::new(0), AtomicU64::new(0));
    let sum = Mutex::new(Sum::default());
    let work = || {
        while stop.load(Ordering::Relaxed) == 0 {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let late = number >= args.least && limit.is_some_and(|limit| begin.elapsed() >= limit);
            if number >= seeds || late {
                break;
            }
            let Ok(options) = options(args.from + number, args) else { break };
            let outcome = run(&options, false);
            let same = !args.twice || run(&options, false).hash == outcome.hash;
            let mut sum = sum.lock().expect("nobody panics with it");
            sum.add(&outcome);
            tell(&outcome);
            if !same {
                println!("seed {}: two runs differ", options.seed);
                sum.bad += 1;
            }
            if sum.bad > 0 && !args.keep_going {
                stop.store(1, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        (0..cores).for_each(|_| drop(scope.spawn(work)));
    });
    let sum = sum.into_inner().map_err(|_| "a run was lost")?;
    println!("{}", sum.text(begin.elapsed()));
    Ok(sum.bad == 0)
}

impl Sum {
    fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.bad += u64::from(outcome.violation.is_some());
        self.events += outcome.events;
        self.seconds += outcome.seconds;
        self.faults += outcome.faults;
        self.grants += outcome.grants;
        self.applied += outcome.guarded.0;
        self.refused += outcome.guarded.1;
        self.cycles += outcome.cycles;
    }

    fn text(&self, took: Duration) -> String {
        let Sum { seeds, bad, events, seconds, faults, grants, applied, refused, cycles } = self;
        let hours = seconds / 3_600;
        let took = took.as_secs_f64();
        let each = *seeds as f64 / took;
        format!(
            "{seeds} seeds, {bad} with violations, in {took:.1} s, {each:.1} a second: {hours} simulated hours, {events} events, {faults} faults, \
             {grants} grants, {applied} guarded operations applied, {refused} stale ones refused, 0 stale ones applied, {cycles} cycles over several masters broken"
        )
        .replace("0 stale ones applied", if *bad == 0 { "0 stale ones applied" } else { "see above" })
    }
}
