//! What a lock holds whatever became of conversions whose answers went with the node: that, and no more, is claimed
//! ([RESTART-13]). It takes the mode tables of the lockspaces, which nothing else here needs.

use alloc::vec::Vec;

use lockstead_types::{
    LockId, ModeTable, Refusal, SpaceId,
    mode::ModeTableSpec,
    reply::{Reply, Revoked, SpaceInfo},
    request::Claim,
    tables::built_in,
};

use crate::{locks::Lock, session::Session};

/// The modes of the lockspaces that this session opened or created.
#[derive(Default)]
pub(crate) struct KnownSpaces {
    modes: Vec<(SpaceId, ModeTableSpec)>,
}

/// The lockspace `default` has `vms` modes on every node.
const DEFAULT: SpaceId = SpaceId(0);

impl KnownSpaces {
    pub(crate) fn note(&mut self, info: &SpaceInfo) {
        if !self.modes.iter().any(|(space, _)| *space == info.space) {
            self.modes.push((info.space, info.modes.clone()));
        }
    }

    fn modes_of(&self, space: SpaceId) -> Option<ModeTable> {
        match self.modes.iter().find(|(known, _)| *known == space) {
            Some((_, spec)) => ModeTable::new(spec.clone()).ok(),
            None if space == DEFAULT => built_in("vms"),
            None => None,
        }
    }
}

impl Session {
    /// [RESTART-13] The node may have granted what it did not get to answer, and others beside the weaker mode. Of several
    /// conversions of a lock each may have been the last one granted.
    pub(crate) fn weaken_doubtful(&mut self) {
        for (lock, to, flags) in self.requests.conversions_in_doubt() {
            let Some(held) = self.locks.get_mut(lock).and_then(Lock::held_mut) else { continue };
            let Claim::Mode(from) = held.claim else { continue };
            let left = self.spaces.modes_of(held.space).and_then(|modes| modes.while_converting(from, to, flags));
            match left {
                Some(left) => {
                    held.weakened |= left != from;
                    held.claim = Claim::Mode(left);
                }
                None => self.lose_lock(lock, Revoked::Superseded),
            }
        }
    }

    /// The answer to a conversion that was not granted: [DEAD-12] it says what is held, where the application was told more.
    pub(crate) fn without_conversion(&mut self, lock: LockId, why: Option<Refusal>) -> Reply {
        let plain = why.map_or(Reply::Cancelled, Reply::Refused);
        let Some(held) = self.locks.get_mut(lock).and_then(Lock::held_mut) else { return plain };
        let weakened = core::mem::take(&mut held.weakened);
        if weakened { Reply::Demoted { held: held.claim, why } } else { plain }
    }
}
