//! I14, over the answers of all nodes to clients, and of masters to homes.

use std::collections::BTreeMap;

use lockstead_types::{
    RequestId, SessionId,
    peer::{Envelope, HomeGeneration, PeerMessage, SlotGeneration},
    reply::Reply,
};

pub(crate) const STATEMENT: &str = "a repeated request has one effect and the same answer";

/// The last answer to each request.
#[derive(Default)]
pub(crate) struct Answers {
    given: BTreeMap<SessionId, BTreeMap<RequestId, Reply>>,
}

/// Numbers of claims have the topmost bit; they are answered anew after each restart.
const CLAIM_BIT: u64 = 1 << 63;

impl Answers {
    pub(crate) fn answered(&mut self, session: SessionId, id: RequestId, reply: &Reply) -> Result<(), String> {
        if matches!(reply, Reply::Queued(_)) || id.0 & CLAIM_BIT != 0 {
            return Ok(());
        }
        let before = self.given.entry(session).or_default().entry(id).or_insert_with(|| reply.clone());
        if before == reply { Ok(()) } else { Err(format!("request {} was answered {before:?}, then {reply:?}", id.0)) }
    }

    pub(crate) fn forget(&mut self, session: SessionId) {
        self.given.remove(&session);
    }
}

/// The number on its link of each last answer that a master gave to a home: what is lost with a connection is said again under
/// the same number. Another number means that the request was handed on twice, though it may have shown nobody another effect.
#[derive(Default)]
pub(crate) struct Replies {
    given: BTreeMap<Asked, u64>,
}

/// By a start of a node: what it was asked.
type Asked = (usize, u32, SessionId, HomeGeneration, RequestId, SlotGeneration);

impl Replies {
    pub(crate) fn said(&mut self, (node, life): (usize, u32), envelope: &Envelope) -> Result<(), String> {
        let PeerMessage::Reply { session, home, id, generation, reply, .. } = &envelope.message else { return Ok(()) };
        if matches!(reply, Reply::Queued(_)) {
            return Ok(());
        }
        let before = self.given.insert((node, life, *session, *home, *id, *generation), envelope.seq);
        match before.filter(|before| *before != envelope.seq) {
            None => Ok(()),
            Some(before) => Err(format!(
                "node {node} answered request {} of {session} in message {before} and in {}: {reply:?}",
                id.0, envelope.seq
            )),
        }
    }
}
