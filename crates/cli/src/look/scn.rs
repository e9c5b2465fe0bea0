//! `lockstead scn`.

use lockstead::Token;
use serde_json::json;

use super::failed;
use crate::{
    args::ConnectArgs,
    connect::connect,
    exit::{Exit, Outcome},
    output::OutputArgs,
    runtime,
};

/// Options of `lockstead scn`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Print the SCN, the cluster's logical clock: every token given from now on is above it, every token given \
                  before is not. On one node it is the newest token.",
    after_long_help = "With -o json an object {\"scn\": \"NUMBER\"}."
)]
pub(crate) struct Args {
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Outcome {
    runtime::run(scn(args))
}

async fn scn(args: &Args) -> Outcome {
    let client = connect(&args.connect).await?;
    let status = client.status().await.map_err(failed)?;
    // A node that gave none in this epoch: the next one is the epoch's first.
    let floor = Token::new(status.epoch, 0).unwrap_or(Token::NONE);
    let scn = status.token.max(floor);
    args.output.print(|| json!({ "scn": scn.to_string() }), || scn.to_string())?;
    Ok(Exit::Success)
}
