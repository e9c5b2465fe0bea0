//! `cargo xtask sim`: the simulator of `crates/sim`, built for speed. Options go to it as they are.

use crate::run::{cargo, show};

/// Builds and runs the simulator.
///
/// # Errors
/// A violation, or options it does not know.
pub(crate) fn run(options: &[&str]) -> Result<(), String> {
    let mut command = cargo();
    command.args(["run", "--release", "--locked", "--quiet", "-p", "lockstead-sim"]);
    if options.contains(&"--mutations") {
        // Bugs exist in this build alone, in a folder of its own so that no other build is ever linked with it.
        command.args(["--features", "planted", "--target-dir", "target/planted"]);
    }
    command.arg("--").args(options);
    show(&mut command)
}
