//! Running other programs: where, with what said on failure, and how long it took.

use core::time::Duration;
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

/// The folder of the workspace.
pub(crate) fn root() -> PathBuf {
    // Cargo sets the variable when it runs us; the one of compile time is right unless the checkout was moved since.
    let here = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| OsString::from(env!("CARGO_MANIFEST_DIR")));
    Path::new(&here).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// The cargo that runs us, to be run in the workspace's folder.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Runs a command with its output shown. Fails, naming the command, where it does not end with status 0.
pub(crate) fn show(command: &mut Command) -> Result<(), String> {
    let text = text(command);
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("`{text}` failed ({status})")),
        Err(e) => Err(format!("`{text}` could not be run: {e}")),
    }
}

/// Runs a command and gives what it wrote to standard output and error. Fails, with both, where it does not end with
/// status 0.
pub(crate) fn capture(command: &mut Command) -> Result<String, String> {
    let text = text(command);
    let output = command.output().map_err(|e| format!("`{text}` could not be run: {e}"))?;
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(said) } else { Err(format!("`{text}` failed ({}):\n{said}", output.status)) }
}

/// Whether a command exists and ends with status 0.
pub(crate) fn works(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

fn text(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}

/// Stages with their names and times.
#[derive(Default)]
pub(crate) struct Stages {
    done: Vec<(&'static str, Duration, bool)>,
}

impl Stages {
    /// Runs a stage unless an earlier one failed hard; remembers how long it took and whether it passed.
    pub(crate) fn stage(&mut self, name: &'static str, work: impl FnOnce() -> Result<(), String>) {
        println!("== {name}");
        let start = Instant::now();
        let outcome = work();
        if let Err(why) = &outcome {
            eprintln!("xtask: {name}: {why}");
        }
        self.done.push((name, start.elapsed(), outcome.is_ok()));
    }

    /// Prints the times; fails where a stage did.
    pub(crate) fn finish(self) -> Result<(), String> {
        let mut total = Duration::ZERO;
        println!("== times");
        for (name, took, passed) in &self.done {
            total += *took;
            println!("{name:12} {:>8.1} s  {}", took.as_secs_f64(), if *passed { "passed" } else { "FAILED" });
        }
        println!("{:12} {:>8.1} s", "total", total.as_secs_f64());
        let failed: Vec<&str> = self.done.iter().filter(|(_, _, passed)| !passed).map(|(name, ..)| *name).collect();
        if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", "))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_stage_fails_the_whole_and_the_rest_still_runs() {
        let mut stages = Stages::default();
        let mut ran = false;
        stages.stage("breaks", || Err("on purpose".into()));
        stages.stage("passes", || {
            ran = true;
            Ok(())
        });
        assert!(ran);
        assert_eq!(stages.finish(), Err("failed: breaks".into()));
    }

    #[test]
    fn a_command_that_fails_is_named() {
        let said = show(Command::new("cargo").arg("no-such-subcommand-of-cargo")).expect_err("no such subcommand");
        assert!(said.contains("cargo no-such-subcommand-of-cargo"), "{said}");
    }

    #[test]
    fn the_root_holds_the_workspace() {
        assert!(root().join("Cargo.toml").is_file());
        assert!(root().join("xtask").is_dir());
    }
}
