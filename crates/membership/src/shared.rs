//! What all tasks of a member of the group share.

use std::sync::{Arc, OnceLock};

use crate::{
    book::Book,
    event::Feed,
    group::Raft,
    leader::Leader,
    net::Promised,
    store::{Disk, LogStore, Write},
};

/// See the head of this file.
pub(crate) struct Core {
    pub(crate) raft: Raft,
    pub(crate) log: LogStore,
    pub(crate) disk: Disk,
    pub(crate) book: Arc<Book>,
    pub(crate) feed: Arc<Feed>,
    pub(crate) leader: Leader,
    /// Whether the node that this is a part of goes about its work.
    pub(crate) alive: OnceLock<Alive>,
}

/// See [`crate::Membership::renew_while`].
pub(crate) type Alive = Box<dyn Fn() -> bool + Send + Sync>;

impl Core {
    /// Whether this node leads, as far as it knows.
    pub(crate) fn leads(&self) -> bool {
        self.raft.as_leader().is_ok()
    }

    /// Whether this node's data is older than what it has told another that it has. In a later term a leader may have taken
    /// entries back that were not agreed on, so then there is nothing to be said.
    pub(crate) fn has_less(&self, promised: Promised) -> bool {
        let (vote, last) = self.log.reaches();
        let term = vote.map_or(0, |vote| vote.leader_id().term);
        term < promised.term || (term == promised.term && last < promised.last)
    }

    /// Ends this node for good: it has forgotten what it promised, as one does whose data was replaced by an older copy. It is
    /// written down, since those who know of it may have forgotten it at its next start.
    pub(crate) async fn give_up_outdated(&self, why: &str) {
        let why = outdated(why);
        // Where that cannot be written the node stops for that.
        let _ = self.disk.write(Write::Outdated(why.clone())).await;
        self.feed.fatal(&why);
    }
}

/// What an operator is told who has put an older copy back.
fn outdated(why: &str) -> String {
    format!(
        "this data is older than what this node has promised ({why}): an older copy was put back. Move the data directory away and start \
         the node with an empty one; its log then says how to let it in"
    )
}
