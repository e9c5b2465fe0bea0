//! The members of a cluster, for `nodes` and `cluster status`.

use lockstead_types::report::{MemberRow, MemberStage};
use serde_json::{Value, json};

use crate::{
    exit::{Exit, Outcome},
    output::{OutputArgs, table::Table, text},
};

/// Prints them.
pub(crate) fn print(output: &OutputArgs, members: &[MemberRow]) -> Outcome {
    output.print(|| members.iter().map(json_of).collect(), || table_of(members))?;
    Ok(Exit::Success)
}

fn json_of(member: &MemberRow) -> Value {
    json!({
        "node": member.node.0, "state": stage(member.state), "incarnation": member.incarnation,
        "weight": member.weight, "slots": member.slots,
        "pinned": member.pinned.iter().map(|slot| slot.0).collect::<Vec<_>>(), "used": member.used, "sessions": member.sessions,
        "identity": format!("{:032x}", member.identity), "peer": member.peer_address, "client": member.client_address,
    })
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
