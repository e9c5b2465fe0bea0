//! `lockstead show`.

use lockstead::Space;
use lockstead_types::report::{LeftOut, ResourceDetail};
use serde_json::{Value, json};

use super::{
    failed,
    ls::{left_out, lock_cells, queues},
};
use crate::{
    args::{ConnectArgs, Name, SpaceArgs, name},
    connect::{connect, space},
    exit::{Exit, Outcome},
    output::{OutputArgs, json, table::Table, text},
    runtime,
};

/// Options of `lockstead show`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Show one resource: who holds it, who converts, who waits, in the order in which they will be granted, and \
                  its value block. In a cluster also its slot, the master of that, and the home of each lock's session. Exits 1 where no lock is on it. Of queues longer than one answer holds (the limit \
                  rows_per_answer, 1,000 by default) the heads are shown, and how many more there are.",
    after_long_help = "Examples:\n  lockstead show orders\n  lockstead show -L tables db1/page:5 -o json\n\n\
        With -o json an object {\"lockspace\", \"name\", \"master\", \"slot\", \"granted\": [...], \"converting\": [...], \"waiting\": \
        [...], \"left_out\": {\"granted\", \"converting\", \"waiting\"}, \"value\": null or {\"text\", \"hex\", \"invalid\"}}; \
        each lock is {\"lock\", \"extent\", \"held\", \"wanted\", \
        \"token\", \"session\", \"group\", \"home\", \"tag\", \"host\", \"pid\", \"program\", \"purpose\", \"within\", \"since_ms\"}; \
        since_ms is null where the node took the lock over from another, or took it back after a restart."
)]
pub(crate) struct Args {
    /// The resource; %XX is any byte
    #[arg(value_parser = name)]
    name: Name,
    #[command(flatten)]
    space: SpaceArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Outcome {
    runtime::run(show(args))
}

async fn show(args: &Args) -> Outcome {
    let client = connect(&args.connect).await?;
    let space = space(&client, &args.space.space).await?;
    let detail = client.show(space.id(), &args.name.0).await.map_err(failed)?;
    let Some(detail) = detail else {
        args.output.print(|| nothing(&args.name, &space), || format!("{}: no lock is on it", args.name))?;
        return Ok(Exit::NotObtained(1));
    };
    args.output.print(|| json::detail(space.name(), &detail, space.modes()), || picture(&detail, &space))?;
    Ok(Exit::Success)
}

fn nothing(name: &Name, space: &Space) -> Value {
    json!({
        "lockspace": space.name(), "name": name.to_string(), "master": null, "slot": null, "granted": [], "converting": [],
        "waiting": [], "left_out": json::left_out(LeftOut::default()), "value": null,
    })
}

fn picture(detail: &ResourceDetail, space: &Space) -> String {
    let mut table = Table::new(&["QUEUE", "MODE", ">TOKEN", ">SINCE", "WHO"]);
    for (queue, row) in queues(detail) {
        let mut cells = vec![queue.to_owned()];
        cells.extend(lock_cells(row, space));
        table.row(cells);
    }
    let slot = detail.slot.map(|slot| format!(" slot={}", slot.0)).unwrap_or_default();
    let head = format!(
        "{} in lockspace {}, master={}{slot}\n",
        text::bytes(&detail.name),
        text::line(space.name()),
        detail.master.0
    );
    let value = detail.value.as_ref().map(|value| match (value.invalid, value.bytes.is_empty()) {
        // Also where nobody ever wrote one: that the node cannot know.
        (true, true) => "no value known: whoever might know of one is gone\n".to_owned(),
        (true, false) => format!("value {} (invalid: its last writer died)\n", text::bytes(&value.bytes)),
        (false, _) => format!("value {}\n", text::bytes(&value.bytes)),
    });
    let rest: String = left_out(detail).map(|(queue, count)| text::not_shown(count.into(), queue)).collect();
    head + &table.text() + &rest + &value.unwrap_or_default()
}
