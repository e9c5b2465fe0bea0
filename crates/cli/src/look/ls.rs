//! `lockstead ls`.

use lockstead::{Client, Space};
use lockstead_types::{
    name::escape,
    report::{LeftOut, LockRow, ResourceDetail, ResourceRow},
};
use serde_json::{Value, json};

use super::failed;
use crate::{
    args::{ConnectArgs, SpaceArgs},
    connect::{connect, space},
    exit::{Exit, Failure, Outcome},
    output::{OutputArgs, json, table::Table, text},
    runtime,
};

/// Options of `lockstead ls`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "List resources that have locks, in the order of their names.",
    after_long_help = "Examples:\n  lockstead ls\n  lockstead ls orders/ --locks\n  lockstead ls -L tables -o json\n\n\
        With -o json an array of {\"name\", \"granted\", \"converting\", \"waiting\", \"strongest\"}; with --locks an array \
        of {\"name\", \"queue\": \"granted\"|\"converting\"|\"waiting\", \"lock\", \"held\", \"wanted\", \"token\", \
        \"session\", \"group\", \"home\", \"tag\", \"host\", \"pid\", \"program\", \"purpose\", \"within\", \"since_ms\"}; since_ms is null where the node took the lock over. Of queues longer than one \
        answer holds (the limit rows_per_answer, 1,000 by default) --locks lists the heads; then a further entry says \
        {\"name\", \"queue\", \"left_out\"}: how many more are in that queue."
)]
pub(crate) struct Args {
    /// Only names that start so; %XX is any byte
    #[arg(value_parser = crate::args::name)]
    prefix: Option<crate::args::Name>,
    /// One line for each lock instead of each resource
    #[arg(long)]
    locks: bool,
    #[command(flatten)]
    space: SpaceArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Outcome {
    runtime::run(ls(args))
}

async fn ls(args: &Args) -> Outcome {
    let client = connect(&args.connect).await?;
    let space = space(&client, &args.space.space).await?;
    let prefix = args.prefix.as_ref().map_or(&[][..], |prefix| &prefix.0);
    let rows = client.resources(space.id(), prefix).await.map_err(failed)?;
    if args.locks {
        let details = details(&client, &space, &rows).await?;
        args.output.print(|| locks_json(&details, &space), || locks_text(&details, &space))?;
    } else {
        let json = || rows.iter().map(|row| json::resource(row, space.modes())).collect();
        args.output.print(json, || resources_text(&rows, &space))?;
    }
    Ok(Exit::Success)
}

async fn details(client: &Client, space: &Space, rows: &[ResourceRow]) -> Result<Vec<ResourceDetail>, Failure> {
    let mut details = Vec::with_capacity(rows.len());
    for row in rows {
        // Gone by now: not an error.
        details.extend(client.show(space.id(), &row.name).await.map_err(failed)?);
    }
    Ok(details)
}

fn resources_text(rows: &[ResourceRow], space: &Space) -> String {
    let mut table = Table::new(&["NAME", ">GRANTED", ">CONVERTING", ">WAITING", "STRONGEST"]);
    for row in rows {
        table.row(vec![
            escape(&row.name),
            row.granted.to_string(),
            row.converting.to_string(),
            row.waiting.to_string(),
            text::maybe_claim(row.strongest, space.modes()),
        ]);
    }
    table.text()
}

/// Every lock of a resource with the name of its queue.
pub(super) fn queues(detail: &ResourceDetail) -> impl Iterator<Item = (&'static str, &LockRow)> {
    let granted = detail.granted.iter().map(|row| ("granted", row));
    let converting = detail.converting.iter().map(|row| ("converting", row));
    let waiting = detail.waiting.iter().map(|row| ("waiting", row));
    granted.chain(converting).chain(waiting)
}

/// The queues of which an answer does not hold all, with how many more there are.
pub(super) fn left_out(detail: &ResourceDetail) -> impl Iterator<Item = (&'static str, u32)> {
    let LeftOut { granted, converting, waiting } = detail.left_out;
    [("granted", granted), ("converting", converting), ("waiting", waiting)].into_iter().filter(|(_, count)| *count > 0)
}

fn locks_json(details: &[ResourceDetail], space: &Space) -> Value {
    let row = |detail: &ResourceDetail, queue: &str, row: &LockRow| {
        let mut lock = json::lock(row, space.modes());
        lock["name"] = escape(&detail.name).into();
        lock["queue"] = json!(queue);
        lock
    };
    let rest = |detail: &ResourceDetail, queue: &str, count: u32| json!({ "name": escape(&detail.name), "queue": queue, "left_out": count });
    let of_one = |detail| {
        let rows = queues(detail).map(move |(queue, lock)| row(detail, queue, lock));
        rows.chain(left_out(detail).map(move |(queue, count)| rest(detail, queue, count)))
    };
    details.iter().flat_map(of_one).collect()
}

fn locks_text(details: &[ResourceDetail], space: &Space) -> String {
    let mut table = Table::new(&["NAME", "QUEUE", "MODE", ">TOKEN", ">SINCE", "WHO"]);
    let mut rest = Vec::new();
    for detail in details {
        for (queue, row) in queues(detail) {
            let mut cells = vec![escape(&detail.name), queue.to_owned()];
            cells.extend(lock_cells(row, space));
            table.row(cells);
        }
        let notes = left_out(detail).map(|(queue, count)| (count, format!("{queue} at {}", escape(&detail.name))));
        rest.extend(notes.map(|(count, what)| text::not_shown(count.into(), &what)));
    }
    table.text() + &rest.concat()
}

/// Mode, token, since, who.
pub(super) fn lock_cells(row: &LockRow, space: &Space) -> [String; 4] {
    let token = if row.token == lockstead::Token::NONE { "-".to_owned() } else { row.token.to_string() };
    [text::held_and_wanted(row, space.modes()), token, text::since(row), text::who(&row.holder)]
}
