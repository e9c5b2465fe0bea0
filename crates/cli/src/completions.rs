//! `lockstead completions`.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::{
    args::Cli,
    exit::{Exit, Outcome},
    output::write_out,
};

/// Options of `lockstead completions`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  bash    lockstead completions bash > ~/.local/share/bash-completion/completions/lockstead
  zsh     lockstead completions zsh > ~/.zfunc/_lockstead     (with ~/.zfunc in $fpath)
  fish    lockstead completions fish > ~/.config/fish/completions/lockstead.fish")]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(args: &Args) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "lockstead", &mut script);
    write_out(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Success)
}
