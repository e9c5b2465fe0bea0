//! Whose each owner of the table is.

use alloc::vec::Vec;

use lockstead_table::OwnerId;
use lockstead_types::SessionId;

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Whose {
    Nobody,
    Session(u32),
    Group(u32),
    /// A session whose home is this node or another: of a member's table.
    Guest(u32),
    /// A session that has just ended; its last effects are being told.
    Ended(SessionId),
}

/// By the number of the owner, which the table hands out densely.
pub(crate) struct Owners {
    whose: Vec<Whose>,
    /// How often one was set.
    #[cfg(feature = "edits")]
    pub(crate) edits: u64,
}

impl Owners {
    pub(crate) fn new() -> Owners {
        Owners {
            whose: Vec::new(),
            #[cfg(feature = "edits")]
            edits: 0,
        }
    }

    pub(crate) fn get(&self, owner: OwnerId) -> Whose {
        self.whose.get(owner.0 as usize).copied().unwrap_or(Whose::Nobody)
    }

    pub(crate) fn set(&mut self, owner: OwnerId, whose: Whose) {
        #[cfg(feature = "edits")]
        {
            self.edits += 1;
        }
        let at = owner.0 as usize;
        if at >= self.whose.len() {
            self.whose.resize(at + 1, Whose::Nobody);
        }
        if let Some(place) = self.whose.get_mut(at) {
            *place = whose;
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (OwnerId, Whose)> {
        (0u32..).map(OwnerId).zip(self.whose.iter().copied())
    }
}
