//! Who has which address and which identity, by the newest state this node has applied; which group that is; and what others have
//! told this node that they have on their disks.

use std::{collections::BTreeMap, sync::Arc};

use lockstead_cluster::State;
use lockstead_types::NodeId;
use parking_lot::Mutex;

use crate::{net::Promised, store::Applied};

/// See the head of this file.
pub(crate) struct Book {
    node: NodeId,
    identity: u128,
    /// The group its data was of when it started, if it was of one.
    kept_group: Option<u64>,
    applied: Arc<Mutex<Applied>>,
    /// By node and identity.
    promised: Mutex<BTreeMap<(u16, u128), Promised>>,
}

impl Book {
    pub(crate) fn new(node: NodeId, identity: u128, kept_group: Option<u64>, applied: Arc<Mutex<Applied>>) -> Book {
        Book { node, identity, kept_group, applied, promised: Mutex::default() }
    }

    /// The group this node is of, by the seed it was formed with; nothing while it is not known.
    pub(crate) fn group(&self) -> Option<u64> {
        self.with(|state| state.is_formed().then_some(state.seed)).or(self.kept_group)
    }

    /// What a node has said that it has.
    pub(crate) fn promised(&self, node: u16, identity: u128) -> Option<Promised> {
        self.promised.lock().get(&(node, identity)).copied()
    }

    /// A node says that it has this: in a later term anything, in the same one no less than before.
    pub(crate) fn note_promise(&self, node: u16, identity: u128, new: Promised) {
        let mut promised = self.promised.lock();
        let kept = promised.entry((node, identity)).or_insert(new);
        if (new.term, new.last) > (kept.term, kept.last) {
            *kept = new;
        }
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
