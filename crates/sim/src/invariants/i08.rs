//! I8, by the clock of the node that decides.

use std::collections::BTreeMap;

use lockstead_types::{SessionId, Span, Time};

pub(crate) const STATEMENT: &str =
    "no session expires before its lease has run out on the deciding clock since the last accepted renewal";

/// When each session was last renewed, by the clock of the node that said so.
#[derive(Default)]
pub(crate) struct Renewals {
    by_node: BTreeMap<(usize, SessionId), (Time, Span)>,
}

impl Renewals {
    pub(crate) fn renewed(&mut self, node: usize, session: SessionId, now: Time, ttl: Option<Span>) {
        let place = self.by_node.entry((node, session)).or_insert((now, ttl.unwrap_or_default()));
        place.0 = now;
        if let Some(ttl) = ttl {
            place.1 = ttl;
        }
    }

    /// Its client gave it up, at whichever home: a late copy of its opening may bring it back with nobody behind it, at any node.
    pub(crate) fn said_goodbye(&mut self, session: SessionId) {
        self.by_node.retain(|(_, known), _| *known != session);
    }

    /// The end of a local connection: it may end at once.
    pub(crate) fn excuse(&mut self, node: usize, session: SessionId) {
        self.by_node.remove(&(node, session));
    }

    pub(crate) fn ended(&mut self, node: usize, session: SessionId, now: Time) -> Result<(), String> {
        match self.by_node.remove(&(node, session)) {
            Some((renewed, ttl)) if now < renewed.after(ttl) => {
                let after = now.since(renewed).as_millis();
                Err(format!(
                    "session {} ended {after} ms after its renewal, of {} ms",
                    session.0 as u64,
                    ttl.as_millis()
                ))
            }
            _ => Ok(()),
        }
    }
}
