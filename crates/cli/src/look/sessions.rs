//! `lockstead sessions`.

use lockstead_types::report::SessionRow;

use super::failed;
use crate::{
    args::ConnectArgs,
    connect::connect,
    exit::{Exit, Outcome},
    output::{OutputArgs, json, table::Table, text},
    runtime,
};

/// Options of `lockstead sessions`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "List sessions: who they are, how much of their lease is left, how many locks they have. The session of this \
                  command itself is left out.",
    after_long_help = "With -o json an array of {\"session\", \"home\", \"local\", \"connected\", \"ttl_ms\", \"left_ms\", \"age_ms\", \
                       \"locks\", \"principal\", \"host\", \"pid\", \"program\", \"purpose\", \"within\"}."
)]
pub(crate) struct Args {
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Outcome {
    runtime::run(sessions(args))
}

async fn sessions(args: &Args) -> Outcome {
    let client = connect(&args.connect).await?;
    let mut rows = client.sessions().await.map_err(failed)?;
    rows.retain(|row| row.session != client.session_id());
    args.output.print(|| rows.iter().map(json::session).collect(), || table(&rows))?;
    Ok(Exit::Success)
}

fn table(rows: &[SessionRow]) -> String {
    let heads = &["SESSION", ">HOME", "KIND", "STATE", ">LEASE", ">LEFT", ">AGE", ">LOCKS", "PRINCIPAL", "WHO"];
    let mut table = Table::new(heads);
    for row in rows {
        table.row(vec![
            row.session.to_string(),
            row.home.0.to_string(),
            if row.local { "local" } else { "remote" }.to_owned(),
            if row.connected { "connected" } else { "away" }.to_owned(),
            text::span(row.ttl),
            text::span(row.left),
            text::span(row.age),
            row.locks.to_string(),
            text::line(&row.principal),
            text::process(&row.meta),
        ]);
    }
    table.text()
}
