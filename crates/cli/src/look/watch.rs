//! `lockstead watch`.

use lockstead::{Space, WatchEvent};
use lockstead_types::{
    Token,
    name::escape,
    reply::{Change, ChangeEvent},
};
use serde_json::json;

use super::failed;
use crate::{
    args::{ConnectArgs, Name, SpaceArgs, name},
    connect::{connect, space},
    exit::{Exit, Outcome},
    output::{Format, OutputArgs, json, text, write_out},
    runtime,
};

/// Options of `lockstead watch`.
#[derive(Debug, clap::Args)]
#[command(
    long_about = "Print changes as they happen, one a line, until Ctrl-C: who was granted what, who began to wait, who \
                  released or gave up.",
    after_long_help = "Examples:\n  lockstead watch\n  lockstead watch orders/ -o json\n  lockstead watch --count 1 orders\n\n\
        `resync` means that changes were lost because they came faster than they were read: look again.\n\n\
        With -o json one object a line: {\"event\": \"granted\"|\"waiting\"|\"released\"|\"cancelled\", \"lockspace\", \
        \"name\", \"lock\", \"session\", \"claim\", \"token\"} or {\"event\": \"resync\"}."
)]
pub(crate) struct Args {
    /// Only names that start so; %XX is any byte
    #[arg(value_parser = name)]
    prefix: Option<Name>,
    /// End after so many changes
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    #[command(flatten)]
    space: SpaceArgs,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connect: ConnectArgs,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> Outcome {
    runtime::run(watch(args))
}

async fn watch(args: &Args) -> Outcome {
    let client = connect(&args.connect).await?;
    let space = space(&client, &args.space.space).await?;
    let prefix = args.prefix.as_ref().map_or(&[][..], |prefix| &prefix.0);
    let mut watch = client.watch(space.id(), prefix).await.map_err(failed)?;
    let mut left = args.count;
    while left != Some(0) {
        let event = tokio::select! {
            event = watch.next() => event,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                return Ok(Exit::Success);
            }
        };
        let Some(event) = event else {
            return Err(Exit::Unavailable.because("the node is gone, and the session with it"));
        };
        write_out(&(line(&event, &space, args.output.output) + "\n"))?;
        left = left.map(|left| left - 1);
    }
    Ok(Exit::Success)
}

fn line(event: &WatchEvent, space: &Space, format: Format) -> String {
    match (event, format) {
        (WatchEvent::Changed(change), Format::Json) => {
            json::change(space.name(), word(change.event), change, space.modes()).to_string()
        }
        (WatchEvent::Changed(change), Format::Text) => words(change, space),
        (WatchEvent::Resync, Format::Json) => json!({ "event": "resync" }).to_string(),
        (WatchEvent::Resync, Format::Text) => "resync".to_owned(),
    }
}

fn words(change: &Change, space: &Space) -> String {
    let claim = text::claim(change.claim, space.modes());
    let mut words = format!("{} {} {claim}", escape(&change.name), word(change.event));
    if change.token != Token::NONE {
        words.push_str(&format!(" token={}", change.token));
    }
    match change.session {
        Some(session) => words.push_str(&format!(" session={session}")),
        None => words.push_str(" orphan"),
    }
    words
}

fn word(event: ChangeEvent) -> &'static str {
    match event {
        ChangeEvent::Granted => "granted",
        ChangeEvent::Waiting => "waiting",
        ChangeEvent::Released => "released",
        ChangeEvent::Cancelled => "cancelled",
    }
}
