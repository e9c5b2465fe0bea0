//! Who has which address and which identity, by the newest state this node has applied.

use std::sync::Arc;

use lockstead_cluster::State;
use lockstead_types::NodeId;
use parking_lot::Mutex;

use crate::store::Applied;

/// See the head of this file.
pub(crate) struct Book {
    node: NodeId,
    identity: u128,
    applied: Arc<Mutex<Applied>>,
}

impl Book {
    pub(crate) fn new(node: NodeId, identity: u128, applied: Arc<Mutex<Applied>>) -> Book {
        Book { node, identity, applied }
    }

    /// This node.
    pub(crate) fn own(&self) -> (u16, u128) {
        (self.node.0, self.identity)
    }

    /// Where a node is: it may have moved since the group's configuration named it.
    pub(crate) fn address(&self, node: u64) -> Option<String> {
        self.with(|state| {
            let member = state.members.get(&NodeId(u16::try_from(node).ok()?))?;
            Some(member.peer_address.clone()).filter(|address| !address.is_empty())
        })
    }

    /// Whether a node is known to have other data than that.
    pub(crate) fn is_other(&self, node: u16, identity: u128) -> bool {
        self.with(|state| state.members.get(&NodeId(node)).is_some_and(|member| member.identity != identity))
    }

    /// Looks at the newest state. Nothing is applied meanwhile.
    pub(crate) fn with<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.applied.lock().state)
    }
}
