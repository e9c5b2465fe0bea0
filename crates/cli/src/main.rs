//! The `lockstead` command: `dev` and `server` run a node, `lock` holds a lock while a command runs, the others look,
//! administer and measure.
//!
//! Reading order: [`args`] (what there is), [`exit`] (how it ends), then the module of the command.
#![forbid(unsafe_code)]

mod admin;
mod args;
mod bench;
mod child;
mod completions;
mod connect;
mod dev;
mod exit;
mod lock;
mod look;
mod output;
mod runtime;
mod server;
mod shell;

use std::process::ExitCode;

use clap::Parser as _;

use crate::{
    args::{Cli, Command},
    exit::{Exit, Outcome},
};

fn main() -> ExitCode {
    // Not for users, so they are no commands among theirs.
    if lock::warden::is_command_line() {
        return finish(lock::warden::run());
    }
    if let Some(args) = child::Args::of_command_line() {
        return finish(child::run(&args));
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers; everything else is a mistake in the command line. Never clap's own 2: it
            // would be taken for a status of the command under the lock.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Success };
            let _ = error.print();
            return exit.into();
        }
    };
    finish(run(cli.command))
}

fn finish(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if !failure.message.is_empty() {
                output::tell(&failure.message);
            }
            failure.exit.into()
        }
    }
}

fn run(command: Command) -> Outcome {
    match command {
        Command::Dev(args) => dev::run(&args),
        Command::Server(args) => server::run(&args),
        Command::Lock(args) => lock::run(&args),
        Command::Ls(args) => look::ls::run(&args),
        Command::Show(args) => look::show::run(&args),
        Command::Tree(args) => look::tree::run(&args),
        Command::Sessions(args) => look::sessions::run(&args),
        Command::Deadlocks(args) => look::deadlocks::run(&args),
        Command::Nodes(args) => look::nodes::run(&args),
        Command::Status(args) => look::status::run(&args),
        Command::Watch(args) => look::watch::run(&args),
        Command::Scn(args) => look::scn::run(&args),
        Command::Release(args) => admin::release::run(&args),
        Command::Cluster(args) => admin::cluster::run(&args),
        Command::Lockspace(args) => admin::lockspace::run(&args),
        Command::Shell(args) => shell::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Completions(args) => completions::run(&args),
    }
}
