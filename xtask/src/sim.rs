//! `cargo xtask sim`: the simulator of `crates/sim`, built for speed. Options go to it as they are, but for one: `--stage` is what is part of
//! `cargo xtask test`.

use crate::run::{cargo, show};

/// The first seed of a stage, instead of 0.
const FROM: &str = "LOCKSTEAD_SIM_FROM";
/// Its minutes, instead of five.
const MINUTES: &str = "LOCKSTEAD_SIM_MINUTES";
/// Seeds it runs whatever they take.
const LEAST: &str = "1000";

/// Builds and runs the simulator.
///
/// # Errors
/// A violation, or options it does not know.
pub(crate) fn run(options: &[&str]) -> Result<(), String> {
    if options == ["--stage"] {
        return stage();
    }
    let mut command = cargo();
    command.args(["run", "--release", "--locked", "--quiet", "-p", "lockstead-sim"]);
    if options.contains(&"--mutations") {
        // Bugs exist in this build alone, in a folder of its own so that no other build is ever linked with it.
        command.args(["--features", "planted", "--target-dir", "target/planted"]);
    }
    command.arg("--").args(options);
    show(&mut command)
}

/// As many seeds as fit into the time, and a thousand at least. The same ones each time, so that a change is judged by what it changed.
///
/// # Errors
/// A violation.
pub(crate) fn stage() -> Result<(), String> {
    let from = std::env::var(FROM).unwrap_or_else(|_| "0".into());
    let minutes = std::env::var(MINUTES).unwrap_or_else(|_| "5".into());
    println!("seeds from {from} on for {minutes} minutes ({FROM}, {MINUTES})");
    run(&["--from", &from, "--minutes", &minutes, "--least", LEAST, "--keep-going"])
}
