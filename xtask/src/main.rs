//! Every script of the project, in Rust: `cargo xtask test`, `cargo xtask tidy`, `cargo xtask sim`, `cargo xtask bench`.
//!
//! Reading order: [`mod@test`] (what must pass), [`tidy`] (the rules that a machine holds), [`mod@bench`] (what is measured).
//! Nothing here needs git, a network or anything beside the checkout, except the one-time install of a missing
//! component of the toolchain.

mod bench;
mod run;
mod sim;
mod test;
mod tidy;

use std::process::ExitCode;

const HELP: &str = "\
cargo xtask COMMAND

  test   format check, clippy, tidy, documentation, every test; prints what each stage took
           --fast     only format check, clippy and tidy, and the tests of the libraries
  tidy   the rules of the project that neither compiler nor clippy know
           --accept-wire   the page docs/protocol.md was looked at: write the hash of the format into it
  sim    the deterministic simulator (crates/sim): `cargo xtask sim --help`
  bench  the benchmarks in process, and instruction counts under callgrind; written to benches/results/
           --only WORD     only the benchmarks with WORD in their name
           --no-callgrind  wall-clock time only
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match args.split_first() {
        Some((&"test", options)) => test::run(options),
        Some((&"tidy", options)) => tidy::run(options),
        Some((&"bench", options)) => bench::run(options),
        Some((&"sim", options)) => sim::run(options),
        None | Some((&("help" | "--help" | "-h"), _)) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Some((other, _)) => Err(format!("there is no `cargo xtask {other}`\n\n{HELP}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xtask: {why}");
            ExitCode::FAILURE
        }
    }
}
