//! `cargo xtask test`: what must pass before a change is taken. Every stage runs even if an earlier one failed, so that
//! one run tells everything.

use std::process::Command;

use crate::{
    run::{self, Stages, cargo, show},
    sim, tidy,
};

/// What of it is wanted.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Extent {
    /// No process tests, no documentation: the inner loop of an edit.
    Fast,
    /// Everything.
    Default,
}

/// Runs the stages and prints the time of each.
///
/// # Errors
/// Names the stages that failed.
pub(crate) fn run(options: &[&str]) -> Result<(), String> {
    let extent = extent(options)?;
    let mut stages = Stages::default();
    stages.stage("install", install);
    stages.stage("format", || show(cargo().args(["fmt", "--all", "--", "--check"])));
    stages.stage("clippy", || {
        show(cargo().args(["clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--", "-D", "warnings"]))
    });
    stages.stage("tidy", || tidy::run(&[]));
    if extent == Extent::Fast {
        stages.stage("lib tests", || show(cargo().args(["test", "--workspace", "--lib", "--locked", "--quiet"])));
        return stages.finish();
    }
    stages.stage("build", || show(cargo().args(["test", "--workspace", "--locked", "--no-run", "--quiet"])));
    stages.stage("tests", tests);
    stages.stage("simulator", sim::stage);
    stages.stage("docs", || {
        let mut doc = cargo();
        doc.args(["doc", "--workspace", "--no-deps", "--locked", "--quiet"]).env("RUSTDOCFLAGS", "-D warnings");
        show(&mut doc)
    });
    stages.finish()
}

fn extent(options: &[&str]) -> Result<Extent, String> {
    match options {
        [] => Ok(Extent::Default),
        ["--fast"] => Ok(Extent::Fast),
        other => Err(format!("test knows --fast, not {other:?}")),
    }
}

/// Every test of every crate, doc tests among them.
fn tests() -> Result<(), String> {
    show(cargo().args(["test", "--workspace", "--locked", "--no-fail-fast", "--quiet"]))
}

/// The two components of the toolchain that a minimal install lacks.
fn install() -> Result<(), String> {
    for (component, probe) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        if run::works(cargo().args([probe, "--version"])) {
            continue;
        }
        show(Command::new("rustup").args(["component", "add", component]))
            .map_err(|why| format!("{component} is missing and rustup could not add it: {why}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_options_are_refused() {
        assert_eq!(extent(&["--fast"]), Ok(Extent::Fast));
        assert!(extent(&["--quick"]).is_err());
        assert!(extent(&["--fast", "--fast"]).is_err());
    }

    #[test]
    fn the_toolchain_is_complete_while_this_runs() {
        assert_eq!(install(), Ok(()));
    }
}
