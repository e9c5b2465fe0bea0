//! The async runtime of the commands that are clients.

use crate::exit::{Failure, Outcome};

/// Runs a command on this thread: everything it starts lives exactly as long as it does.
///
/// # Errors
/// Those of the command, or of the operating system.
pub(crate) fn run(command: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::from)?;
    runtime.block_on(command)
}
