//! The members of a cluster, for `nodes` and `cluster status`.

use lockstead_types::report::{MemberRow, MemberStage};
use serde_json::{Value, json};

use crate::{
    exit::{Exit, Outcome},
    output::{OutputArgs, table::Table, text},
};

/// Pinned slots of a member that are listed in the text.
const PINS: usize = 32;

/// How far what a node says of the members can be counted on.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Known<'a> {
    /// A majority stands behind it.
    Now,
    /// The node has no majority: it is what was agreed on before.
    Last {
        /// Which node says so.
        from: &'a str,
    },
}

/// Prints them.
pub(crate) fn print(output: &OutputArgs, members: &[MemberRow], known: &Known<'_>) -> Outcome {
    let text = || {
        let head = match known {
            Known::Now => String::new(),
            Known::Last { from } => {
                format!("as last agreed on, no majority now: {from} cannot tell who is up by now\n")
            }
        };
        head + &table_of(members) + &members.iter().map(pins).collect::<String>()
    };
    output.print(|| members.iter().map(|member| json_of(member, known)).collect(), text)?;
    Ok(Exit::Success)
}

fn json_of(member: &MemberRow, known: &Known<'_>) -> Value {
    json!({
        "node": member.node.0, "state": stage(member.state), "current": *known == Known::Now,
        "incarnation": member.incarnation, "weight": member.weight, "slots": member.slots,
        "pinned": member.pinned.iter().map(|slot| slot.0).collect::<Vec<_>>(), "used": member.used, "sessions": member.sessions,
        "identity": format!("{:032x}", member.identity), "peer": member.peer_address, "client": member.client_address,
    })
}

/// A line that names the slots pinned to a member, where there are some.
fn pins(member: &MemberRow) -> String {
    if member.pinned.is_empty() {
        return String::new();
    }
    let numbers: Vec<String> = member.pinned.iter().take(PINS).map(|slot| slot.0.to_string()).collect();
    let more = match member.pinned.len().saturating_sub(PINS) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("pinned to node {}: slot {}{more}\n", member.node.0, numbers.join(" "))
}

fn table_of(members: &[MemberRow]) -> String {
    let mut table =
        Table::new(&[">NODE", "STATE", ">STARTS", ">WEIGHT", ">SLOTS", ">PINNED", ">SESSIONS", "CLIENT", "PEER"]);
    for member in members {
        table.row(vec![
            member.node.0.to_string(),
            stage(member.state).to_owned(),
            member.incarnation.to_string(),
            if member.weight == 0 { "witness".to_owned() } else { member.weight.to_string() },
            member.slots.to_string(),
            member.pinned.len().to_string(),
            member.sessions.to_string(),
            text::line(&member.client_address),
            text::line(&member.peer_address),
        ]);
    }
    table.text()
}

fn stage(stage: MemberStage) -> &'static str {
    match stage {
        MemberStage::Down => "down",
        MemberStage::Up => "up",
        MemberStage::Draining => "draining",
    }
}
