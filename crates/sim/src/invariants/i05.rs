//! I5, at each decision, by the slot it was made for.

use std::collections::BTreeMap;

use lockstead_cluster::State;
use lockstead_types::{NodeId, Slot, SpaceId};

pub(crate) const STATEMENT: &str =
    "one master per slot and generation, and once a newer one has decided anything an older one decides nothing";

/// The newest generation of each slot under which something was decided.
#[derive(Default)]
pub(crate) struct Generations {
    newest: BTreeMap<Slot, (u32, NodeId)>,
}

impl Generations {
    /// A node that is as far as `state` has decided something about a name.
    pub(crate) fn decided(&mut self, state: &State, node: NodeId, name: &[u8]) -> Result<(), String> {
        let slot = Slot::of(state.seed, SpaceId(0), name);
        let Some(entry) = state.master(slot) else { return Err(format!("{node:?} decided without a slot map")) };
        let generation = entry.generation.0;
        if entry.master != node {
            return Err(format!("{node:?} decided for {slot:?}, whose master it knows to be {:?}", entry.master));
        }
        let newest = self.newest.entry(slot).or_insert((generation, node));
        if generation < newest.0 || (generation == newest.0 && node != newest.1) {
            return Err(format!("{node:?} decided for {slot:?} in generation {generation}, after {newest:?}"));
        }
        *newest = (generation, node);
        Ok(())
    }
}
