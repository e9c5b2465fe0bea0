//! I15, as each node comes to an epoch.

use crate::{group::fingerprint, invariants::Code, world::World};

pub(crate) const STATEMENT: &str =
    "epochs strictly rise, and every node that comes to one finds the same members and masters";

impl World {
    /// A node has come to where it is now.
    pub(crate) fn judge_epoch(&mut self, at: usize) {
        let host = &self.nodes[at];
        let state = host.node.as_ref().and_then(|node| node.cluster_state()).unwrap_or(&host.replica);
        let (epoch, before) = (state.epoch, host.epoch);
        if epoch == before {
            return;
        }
        let print = fingerprint(state);
        if epoch < before && epoch != 0 && before != u32::MAX {
            self.judge.fail(Code::I15, &format!("node {at} went back from epoch {before} to {epoch}"));
        }
        self.nodes[at].epoch = epoch;
        let known = *self.group.epochs.entry(epoch).or_insert(print);
        if known != print {
            self.judge.fail(Code::I15, &format!("node {at} has another epoch {epoch} than others"));
        }
    }
}
