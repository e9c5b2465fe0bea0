//! Reports as JSON. Field names are part of the interface: they are added to, never renamed.
//!
//! Tokens, lock ids and session ids are strings (a JSON number holds 53 bits); names are percent-escaped; spans are
//! whole milliseconds and end in `_ms`; a claim is a mode's name, or `TAKE/OF` for permits; what is not there is `null`.

use lockstead_types::{
    ModeTable, NodeId, Token,
    hierarchy::{Escalation, Hierarchy},
    name::escape,
    reply::{Change, Value},
    report::{
        DeadlockReport, LeftOut, LockRow, MemberStatus, Meta, NodeStatus, ResourceDetail, ResourceRow, SessionRow,
        WaitEdge,
    },
    request::Claim,
    space::{DeadlockPolicy, Mastering, ModeChoice, QueuePolicy, SpaceSpec, VictimPolicy},
};
use serde_json::{Value as Json, json};

use super::text;

/// A token, `null` for none.
pub(crate) fn token(token: Token) -> Json {
    if token == Token::NONE { Json::Null } else { token.to_string().into() }
}

/// A claim, `null` for none.
pub(crate) fn claim(claim: Option<Claim>, modes: &ModeTable) -> Json {
    claim.map_or(Json::Null, |claim| text::claim(claim, modes).into())
}

/// A row of `ls`.
pub(crate) fn resource(row: &ResourceRow, modes: &ModeTable) -> Json {
    json!({
        "name": escape(&row.name), "granted": row.granted, "converting": row.converting, "waiting": row.waiting,
        "strongest": claim(row.strongest, modes),
    })
}

/// A resource with its queues.
pub(crate) fn detail(space: &str, detail: &ResourceDetail, modes: &ModeTable) -> Json {
    let queue = |rows: &[LockRow]| rows.iter().map(|row| lock(row, modes)).collect::<Vec<_>>();
    json!({
        "lockspace": space, "name": escape(&detail.name), "master": node(detail.master),
        "slot": detail.slot.map(|slot| slot.0),
        "granted": queue(&detail.granted), "converting": queue(&detail.converting), "waiting": queue(&detail.waiting),
        "left_out": left_out(detail.left_out), "value": detail.value.as_ref().map(value),
    })
}

/// How many locks of each queue an answer does not hold.
pub(crate) fn left_out(left_out: LeftOut) -> Json {
    let LeftOut { granted, converting, waiting } = left_out;
    json!({ "granted": granted, "converting": converting, "waiting": waiting })
}

/// A lock.
pub(crate) fn lock(row: &LockRow, modes: &ModeTable) -> Json {
    let mut json = meta(&row.holder.meta);
    json["lock"] = row.lock.0.to_string().into();
    json["extent"] = (!row.extent.is_empty()).then(|| row.extent.clone()).into();
    json["held"] = claim(row.held, modes);
    json["wanted"] = claim(row.wanted, modes);
    json["token"] = token(row.token);
    json["session"] = row.holder.session.map(|id| id.to_string()).into();
    json["group"] = row.holder.group.map(|id| id.0).into();
    json["home"] = row.holder.home.map(|home| home.0).into();
    json["tag"] = row.holder.tag.into();
    json["since_ms"] = row.since.map(|since| since.as_millis()).into();
    json
}

/// A wait-for edge.
pub(crate) fn edge(edge: &WaitEdge, space: &str, modes: &ModeTable) -> Json {
    json!({
        "lockspace": space, "name": escape(&edge.name), "hard": edge.hard,
        "waiter": lock(&edge.waiter, modes), "blocker": lock(&edge.blocker, modes),
    })
}

/// A session.
pub(crate) fn session(row: &SessionRow) -> Json {
    let mut json = meta(&row.meta);
    json["session"] = row.session.to_string().into();
    json["home"] = node(row.home);
    json["local"] = row.local.into();
    json["connected"] = row.connected.into();
    json["ttl_ms"] = row.ttl.as_millis().into();
    json["left_ms"] = row.left.as_millis().into();
    json["age_ms"] = row.age.as_millis().into();
    json["locks"] = row.locks.into();
    json["principal"] = row.principal.clone().into();
    json
}

/// A deadlock; `edges` are those of its cycle, made by [`edge`].
pub(crate) fn deadlock(report: &DeadlockReport, edges: &[Json], why: &str, order: &[String]) -> Json {
    json!({
        "number": report.number, "ago_ms": report.ago.as_millis(), "victim": report.victim.0.to_string(), "why": why,
        "cycle": edges, "left_out": report.left_out, "order": order,
    })
}

/// A node's status.
pub(crate) fn status(status: &NodeStatus) -> Json {
    let counters: serde_json::Map<String, Json> =
        status.counters.iter().map(|(name, count)| (name.clone(), (*count).into())).collect();
    json!({
        "node": node(status.node), "epoch": status.epoch, "version": status.version,
        "uptime_ms": status.uptime.as_millis(), "frozen_for_ms": status.frozen_for.as_millis(),
        "sessions": status.sessions, "groups": status.groups, "lockspaces": status.spaces,
        "resources": status.resources, "granted": status.granted, "converting": status.converting,
        "waiting": status.waiting, "orphans": status.orphans, "token": token(status.token), "counters": counters,
        "member": status.member.as_ref().map(member),
    })
}

/// A node as a member of its cluster.
fn member(member: &MemberStatus) -> Json {
    json!({
        "incarnation": member.incarnation, "members": member.members, "up": member.up,
        "leader": member.leader.map(|leader| leader.0), "authority_ms": member.authority.as_millis(),
        "slots": member.slots, "recovering": member.recovering,
        "recovering_for_ms": member.recovering_for.as_millis(),
    })
}

/// A change.
pub(crate) fn change(space: &str, event: &str, change: &Change, modes: &ModeTable) -> Json {
    json!({
        "event": event, "lockspace": space, "name": escape(&change.name), "lock": change.lock.0.to_string(),
        "session": change.session.map(|id| id.to_string()), "claim": text::claim(change.claim, modes),
        "token": token(change.token),
    })
}

/// A lockspace.
pub(crate) fn space(spec: &SpaceSpec) -> Json {
    let (policy, overtakes, ageing) = match spec.policy {
        QueuePolicy::Vms => ("vms", Json::Null, Json::Null),
        QueuePolicy::Fair { overtakes, ageing } => ("fair", overtakes.into(), ageing.as_millis().into()),
    };
    json!({
        "lockspace": spec.name, "modes": modes_name(&spec.modes), "policy": policy, "overtakes": overtakes,
        "ageing_ms": ageing, "deadlock": deadlock_policy(spec.deadlock), "victim": victim_policy(spec.victim),
        "value_bytes": spec.value_bytes, "levels": spec.levels, "extents": spec.extents, "mastering": mastering(spec.mastering), "persistent": spec.persistent,
        "discipline": spec.discipline.word(), "hierarchy": spec.hierarchy.as_deref().map(tree),
    })
}

/// Levels, the root's first, and when many locks become one.
fn tree(tree: &Hierarchy) -> Json {
    let (at, retry) = match tree.escalation {
        Escalation::Off => (Json::Null, Json::Null),
        Escalation::To(escalate) => (escalate.at.into(), escalate.retry.into()),
    };
    json!({ "levels": tree.levels, "escalate": tree.escalate_word(), "at": at, "retry": retry })
}

/// A value block. `text` where it is UTF-8, `hex` always.
fn value(value: &Value) -> Json {
    let hex: String = value.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({ "text": core::str::from_utf8(&value.bytes).ok(), "hex": hex, "invalid": value.invalid })
}

fn meta(meta: &Meta) -> Json {
    let within = meta.within.map(|id| id.to_string());
    json!({ "host": meta.host, "pid": meta.pid, "program": meta.program, "purpose": meta.purpose, "within": within })
}

fn node(node: NodeId) -> Json {
    node.0.into()
}

/// The name of a lockspace's mode table.
pub(crate) fn modes_name(modes: &ModeChoice) -> &str {
    match modes {
        ModeChoice::BuiltIn(name) => name,
        ModeChoice::Custom(spec) => &spec.name,
    }
}

/// As `--mastering` takes it.
pub(crate) fn mastering(mastering: Mastering) -> &'static str {
    match mastering {
        Mastering::Spread => "spread",
        Mastering::Affinity => "affinity",
    }
}

/// As `--deadlock` takes it.
pub(crate) fn deadlock_policy(policy: DeadlockPolicy) -> &'static str {
    match policy {
        DeadlockPolicy::Detect => "detect",
        DeadlockPolicy::Timeout => "timeout",
        DeadlockPolicy::NoWait => "no-wait",
        DeadlockPolicy::WaitDie => "wait-die",
        DeadlockPolicy::WoundWait => "wound-wait",
    }
}

/// As `--victim` takes it.
pub(crate) fn victim_policy(policy: VictimPolicy) -> &'static str {
    match policy {
        VictimPolicy::Requester => "requester",
        VictimPolicy::Youngest => "youngest",
        VictimPolicy::FewestLocks => "fewest-locks",
        VictimPolicy::LowestPriority => "lowest-priority",
    }
}
