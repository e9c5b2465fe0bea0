//! Events as JSON, one object a line. Field names are part of the interface.

use lockstead_script::{
    Event, LockEvent,
    event::{TransactionEvent, revoked_word},
    show::{Queue, QueueRow, Queues},
};
use lockstead_types::{name::escape, reply::Value};
use serde_json::{Value as Json, json};

use crate::output::json::{left_out, token};

/// An event of a session.
pub(crate) fn event(session: &str, event: &Event) -> Json {
    let mut json = match event {
        Event::Lock { name, tag, what } => {
            let mut json = lock(what);
            json["name"] = escape(name).into();
            json["tag"] = (*tag).into();
            json
        }
        Event::Refused { word, why } => {
            json!({ "event": "refused", "name": word, "reason": why.to_string(), "meaning": why.meaning() })
        }
        Event::NotMoved { to, why } => json!({ "event": "not-moved", "to": to, "why": why }),
        Event::Purged(count) => json!({ "event": "purged", "count": count }),
        Event::Transaction(what) => transaction(what),
        Event::Shown(queues) => shown(queues),
        Event::SessionLost => json!({ "event": "session-lost" }),
    };
    json["session"] = session.into();
    json
}

fn lock(what: &LockEvent) -> Json {
    match what {
        LockEvent::Granted { claim, token: t, value: v, demoted, alternative } => json!({
            "event": "granted", "claim": plain(claim), "token": token(*t), "value": v.as_ref().map(value),
            "demoted": demoted, "alternative": alternative,
        }),
        LockEvent::Covered { by } => json!({ "event": "covered", "by": escape(by) }),
        LockEvent::TookIn => json!({ "event": "took-in" }),
        LockEvent::NotAnnounced { above, mode } => {
            json!({ "event": "refused", "reason": "intent", "above": escape(above), "mode": mode })
        }
        LockEvent::Waiting(claim) => json!({ "event": "waiting", "claim": plain(claim) }),
        LockEvent::Blocking(claim) => json!({ "event": "blocking", "claim": plain(claim) }),
        LockEvent::Released => json!({ "event": "released" }),
        LockEvent::Cancelled => json!({ "event": "cancelled" }),
        LockEvent::Refused(why) => json!({ "event": "refused", "reason": why.to_string(), "meaning": why.meaning() }),
        LockEvent::Demoted { why: Some(why) } => {
            json!({ "event": "refused", "reason": why.to_string(), "meaning": why.meaning(), "demoted": true })
        }
        LockEvent::Demoted { why: None } => json!({ "event": "cancelled", "demoted": true }),
        LockEvent::Value(v) => json!({ "event": "value", "value": value(v) }),
        LockEvent::Lost(why) => json!({ "event": "lost", "reason": revoked_word(*why) }),
    }
}

fn transaction(what: &TransactionEvent) -> Json {
    match what {
        TransactionEvent::Begun => json!({ "event": "begun" }),
        TransactionEvent::Committed => json!({ "event": "committed" }),
        TransactionEvent::RolledBack => json!({ "event": "rolled-back" }),
        TransactionEvent::RolledBackTo(point) => json!({ "event": "rolled-back", "savepoint": point }),
        TransactionEvent::Savepoint(point) => json!({ "event": "savepoint", "savepoint": point }),
        TransactionEvent::StatementEnded => json!({ "event": "statement-ended" }),
        TransactionEvent::Aborted => json!({ "event": "aborted" }),
    }
}

/// Permits are `TAKE/OF` in JSON, as everywhere.
fn plain(claim: &str) -> &str {
    claim.strip_prefix("permits=").unwrap_or(claim)
}

fn value(value: &Value) -> Json {
    json!({ "text": escape(&value.bytes), "invalid": value.invalid })
}

fn shown(queues: &Queues) -> Json {
    let queue = |which: Queue| queues.rows.iter().filter(|row| row.queue == which).map(row).collect::<Vec<_>>();
    json!({
        "event": "show", "name": escape(&queues.name), "master": queues.master.map(|node| node.0),
        "value": queues.value.as_ref().map(value), "granted": queue(Queue::Granted),
        "converting": queue(Queue::Converting), "waiting": queue(Queue::Waiting), "left_out": left_out(queues.left_out),
    })
}

fn row(row: &QueueRow) -> Json {
    json!({
        "extent": (!row.extent.is_empty()).then_some(&row.extent),
        "held": row.held.as_deref().map(plain), "wanted": row.wanted.as_deref().map(plain), "token": token(row.token),
        "who": row.who,
    })
}

#[cfg(test)]
mod tests {
    use lockstead_types::{Refusal, Token};

    use super::*;

    #[test]
    fn the_fields_of_events() {
        let granted = LockEvent::Granted {
            claim: "permits=1/2".into(),
            token: Token::new(1, 7).unwrap_or_default(),
            value: Some(Value { bytes: (*b"a b").into(), invalid: true }),
            demoted: false,
            alternative: true,
        };
        let json = event("a", &Event::Lock { name: (*b"x y").into(), tag: 3, what: granted });
        assert_eq!(
            json,
            json!({
                "session": "a", "event": "granted", "name": "x%20y", "tag": 3, "claim": "1/2", "token": "1099511627783",
                "value": { "text": "a%20b", "invalid": true }, "demoted": false, "alternative": true,
            })
        );
        let refused = Event::Refused { word: "begin".into(), why: Refusal::Invalid };
        assert_eq!(
            event("b", &refused),
            json!({
                "session": "b", "event": "refused", "name": "begin", "reason": "invalid",
                "meaning": Refusal::Invalid.meaning(),
            })
        );
        assert_eq!(event("b", &Event::SessionLost), json!({ "session": "b", "event": "session-lost" }));
    }
}
