//! What all tasks of a member of the group share.

use std::sync::Arc;

use crate::{book::Book, event::Feed, group::Raft, leader::Leader};

/// See the head of this file.
pub(crate) struct Core {
    pub(crate) raft: Raft,
    pub(crate) book: Arc<Book>,
    pub(crate) feed: Arc<Feed>,
    pub(crate) leader: Leader,
}

impl Core {
    /// Whether this node leads, as far as it knows.
    pub(crate) fn leads(&self) -> bool {
        self.raft.as_leader().is_ok()
    }
}
