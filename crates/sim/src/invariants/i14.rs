//! I14, over the answers of all nodes.

use std::collections::BTreeMap;

use lockstead_types::{RequestId, SessionId, reply::Reply};

pub(crate) const STATEMENT: &str = "a repeated request has one effect and the same answer";

/// The last answer to each request.
#[derive(Default)]
pub(crate) struct Answers {
    given: BTreeMap<(SessionId, RequestId), Reply>,
}

/// Numbers of claims have the topmost bit; they are answered anew after each restart.
const CLAIM_BIT: u64 = 1 << 63;

impl Answers {
    pub(crate) fn answered(&mut self, session: SessionId, id: RequestId, reply: &Reply) -> Result<(), String> {
        if matches!(reply, Reply::Queued(_)) || id.0 & CLAIM_BIT != 0 {
            return Ok(());
        }
        match self.given.get(&(session, id)) {
            None => {
                self.given.insert((session, id), reply.clone());
                Ok(())
            }
            Some(before) if before == reply => Ok(()),
            Some(before) => Err(format!("request {} was answered {before:?}, then {reply:?}", id.0)),
        }
    }

    pub(crate) fn forget(&mut self, session: SessionId) {
        let of: Vec<_> =
            self.given.range((session, RequestId(0))..=(session, RequestId(u64::MAX))).map(|(k, _)| *k).collect();
        for key in of {
            self.given.remove(&key);
        }
    }
}
