//! Applying a command: what is kept of resources of persistent lockspaces.

use alloc::{boxed::Box, collections::BTreeMap, vec::Vec};

use lockstead_types::{
    Slot, SpaceId,
    limits::{NAME_BYTES_CEILING, PERSISTENT_VALUE_BYTES},
    peer::SlotGeneration,
};

use crate::{
    command::{Change, Refused},
    state::State,
};

/// Resources of which something is kept.
pub const KEPT: usize = 65_536;

/// What the members keep of a resource of a persistent lockspace, whoever dies.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Kept {
    /// Its value block.
    pub value: Vec<u8>,
    /// Whether the value is in doubt: its last writer was lost. Until the next write.
    pub dubious: bool,
    /// Whether somebody held it in a mode that writes.
    pub written: bool,
}

impl State {
    /// [PERSIST-7] A majority was given up, and with it what only it knew.
    pub(crate) fn doubt_kept(&mut self) {
        self.kept.values_mut().flat_map(BTreeMap::values_mut).for_each(|kept| kept.dubious = true);
    }

    pub(crate) fn keep(
        &mut self,
        space: SpaceId,
        slot: Slot,
        (generation, order): (SlotGeneration, u64),
        name: &[u8],
        kept: &Kept,
    ) -> Result<Vec<Change>, Refused> {
        let spec = self.spaces.get(&space).ok_or(Refused::Unknown)?;
        let fits = name.len() <= NAME_BYTES_CEILING as usize && kept.value.len() <= PERSISTENT_VALUE_BYTES as usize;
        if !spec.persistent || name.is_empty() || !fits {
            return Err(Refused::Invalid);
        }
        // Only the slot's master knows.
        if self.master(slot).is_none_or(|now| now.generation != generation) {
            return Err(Refused::Outdated);
        }
        // [PERSIST-6] Proposals are repeated where they seem to be lost, and the first may come after what was proposed later.
        if self.said.get(&slot).is_some_and(|said| *said >= (generation, order)) {
            return Err(Refused::Outdated);
        }
        self.said.insert(slot, (generation, order));
        let count: usize = self.kept.values().map(BTreeMap::len).sum();
        let of_space = self.kept.entry(space).or_default();
        if *kept == Kept::default() {
            of_space.remove(name);
            if of_space.is_empty() {
                self.kept.remove(&space);
            }
            return Ok(Vec::new());
        }
        match of_space.get_mut(name) {
            Some(known) => known.clone_from(kept),
            None if count >= KEPT => {
                if of_space.is_empty() {
                    self.kept.remove(&space);
                }
                return Err(Refused::Full);
            }
            None => drop(of_space.insert(Box::from(name), kept.clone())),
        }
        Ok(Vec::new())
    }
}
