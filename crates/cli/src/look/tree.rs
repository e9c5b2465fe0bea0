//! `lockstead tree`.

use std::collections::HashMap;

use lockstead::{Client, SessionId};
use lockstead_types::report::{WaitEdge, Waits};
use serde_json::json;

use super::{failed, spaces::Spaces, tree_picture};
use crate::{
    args::ConnectArgs,
    connect::connect,
    exit::{Exit, Failure, Outcome},
    output::{OutputArgs, json},
    runtime,
};

/// Options of `lockstead tree`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Show who waits for whom.\n\nAt the root stands who waits for nobody and is waited for; beneath, what it \
                  blocks and who waits for that, and what those block in their turn. `(soft)` means that the blocker has \
                  not got the lock either, but asked earlier. Beneath one that runs within another, as nested `lockstead \
                  lock` do, stands what that other one blocks meanwhile.\n\nA node answers with so many waits at most as its limit \
                  rows_per_answer says, 1,000 by default; where more wait, a last line says how many are not shown. While nodes of a cluster take over the slots of \
                  another, which is dead or gives them up, who waits in those is not shown; a first line says so.",
    after_long_help = "Example:\n  db1:4711 backup \"nightly\"\n  \u{2514}\u{2500} orders EX 12.3s, token 1099511627777\n     \
        \u{251c}\u{2500} wants PR 3.2s: db2:99 report\n     \u{2514}\u{2500} wants EX 1.1s: db3:12 sh\n\n\
        With -o json an object {\"edges\": [...], \"waiting\": how many wait in all, \"more\": whether edges are left out, \
        \"taking_over\": slots in which nobody is shown yet}; an \
        edge is {\"lockspace\", \"name\", \"hard\", \"waiter\": LOCK, \"blocker\": LOCK}, a LOCK is as in `lockstead show`."
)]
pub(crate) struct Args {
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Outcome {
    runtime::run(tree(args))
}

async fn tree(args: &Args) -> Outcome {
    let client = connect(&args.connect).await?;
    let waits = client.waits().await.map_err(failed)?;
    let spaces = Spaces::load(&client).await?;
    let edge = |edge: &WaitEdge| json::edge(edge, spaces.name(edge.space), spaces.modes(edge.space));
    let outer = outer_sessions(&client, &waits.edges).await?;
    let json = || {
        let Waits { edges, waiting, more, taking_over } = &waits;
        json!({ "edges": edges.iter().map(edge).collect::<Vec<_>>(), "waiting": waiting, "more": more, "taking_over": taking_over })
    };
    args.output.print(json, || tree_picture::draw(&waits, &spaces, &outer))?;
    Ok(Exit::Success)
}

/// Which session each runs within. All are asked for only where somebody in the picture does: between that one and another
/// in the picture may stand some that neither wait nor are waited for.
async fn outer_sessions(client: &Client, edges: &[WaitEdge]) -> Result<HashMap<SessionId, SessionId>, Failure> {
    if edges.iter().all(|edge| edge.waiter.holder.meta.within.is_none()) {
        return Ok(HashMap::new());
    }
    let rows = client.sessions().await.map_err(failed)?;
    Ok(rows.into_iter().filter_map(|row| Some((row.session, row.meta.within?))).collect())
}
