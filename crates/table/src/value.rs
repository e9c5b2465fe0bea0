//! The value block: which way it moves with a grant or release, and whether it is to be trusted.

use alloc::{boxed::Box, vec::Vec};

use lockstead_types::{Flags, LockId, Mode, ModeTable, Refusal, SpaceId, reply::Value};

use crate::{OwnerId, Table, resource::Credit};

/// Which way a value block moves.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Transfer {
    /// From the resource to who asks.
    Read,
    /// From who asks to the resource.
    Write,
    /// Not at all.
    Nothing,
}

/// The transfer of a change from `old` (none: a new lock) to `new` (none: a release). Modes rank by their order in the
/// table.
pub(crate) fn direction(modes: &ModeTable, old: Option<Mode>, new: Option<Mode>) -> Transfer {
    match (old, new) {
        // [VALUE-2] A new lock reads, in any mode.
        (None, _) => Transfer::Read,
        // [VALUE-3] From a writing mode, anything not stronger writes, a release too.
        (Some(old), None) if modes.writes(old) => Transfer::Write,
        (Some(old), Some(new)) if modes.writes(old) => {
            if new <= old {
                Transfer::Write
            } else {
                Transfer::Read
            }
        }
        // [VALUE-4] From another mode, the same or a stronger one reads; anything else moves nothing.
        (Some(old), Some(new)) if new >= old => Transfer::Read,
        _ => Transfer::Nothing,
    }
}

impl Table {
    /// Reads the value block of a lock that is held, in any mode, converting or not ([VALUE-11]).
    ///
    /// # Errors
    /// `NotHeld` where the owner holds no such lock.
    pub fn read_value(&self, owner: OwnerId, lock: LockId) -> Result<Value, Refusal> {
        let index = self.find_lock(owner, lock).ok_or(Refusal::NotHeld)?;
        let lock = &self.locks[index];
        // [VALUE-11] Whatever is held, even while it converts.
        if lock.is_held() { Ok(self.value(lock.resource)) } else { Err(Refusal::NotHeld) }
    }

    /// The value block; empty and valid where nothing was ever written ([VALUE-1]).
    pub(crate) fn value(&self, resource: u32) -> Value {
        // [VALUE-1] Empty and valid.
        self.known_value(resource).unwrap_or_default()
    }

    /// The value block; `None` where nothing was ever written, as far as is known.
    pub(crate) fn known_value(&self, resource: u32) -> Option<Value> {
        let known = self.extra(resource).and_then(|e| e.value.clone());
        // [FREEZE-5] The bytes went with the node.
        known.or_else(|| self.resources[resource].doubtful.then(|| Value { bytes: Box::default(), invalid: true }))
    }

    /// Refuses a value that may not be written.
    pub(crate) fn check_value(&self, resource: u32, flags: Flags, value: Option<&[u8]>) -> Result<(), Refusal> {
        let Some(value) = value else { return Ok(()) };
        // [VALUE-5] A value belongs to VALBLK.
        if !flags.has(Flags::VALBLK) {
            return Err(Refusal::Invalid);
        }
        // [LIMIT-2] It fits the lockspace's block.
        let most = self.space_of(resource).value_bytes;
        if value.len() > most as usize { Err(Refusal::TooLong) } else { Ok(()) }
    }

    /// Moves the value block with a change of mode that has been decided; what was read, where VALBLK asks for it.
    pub(crate) fn transfer(
        &mut self,
        resource: u32,
        (old, new): (Option<Mode>, Option<Mode>),
        flags: Flags,
        value: Option<Box<[u8]>>,
    ) -> Option<Value> {
        self.touch(resource);
        // Most requests have nothing to do with value blocks.
        if value.is_none() && !flags.has(Flags::VALBLK) && !flags.has(Flags::IVVALBLK) {
            return None;
        }
        match direction(self.modes_of(resource), old, new) {
            Transfer::Read if flags.has(Flags::VALBLK) => Some(self.value(resource)),
            // [VALUE-6] IVVALBLK: where it would be written, it is marked invalid instead.
            Transfer::Write if flags.has(Flags::IVVALBLK) => {
                self.invalidate(resource);
                None
            }
            // [VALUE-7] A write makes it valid; nothing else does. Without a value to write it stays as it is.
            Transfer::Write => {
                #[cfg(feature = "planted")]
                let value = value.filter(|_| !lockstead_types::planted::is(lockstead_types::planted::Bug::LostValue));
                if let Some(bytes) = value {
                    let extra = self.extra_mut(resource);
                    extra.value = Some(Value { bytes, invalid: false });
                    extra.credit = Credit::Here;
                }
                None
            }
            Transfer::Read | Transfer::Nothing => None,
        }
    }

    /// Marks the value block invalid, its bytes as they are.
    pub(crate) fn invalidate(&mut self, resource: u32) {
        let extra = self.extra_mut(resource);
        extra.value.get_or_insert_default().invalid = true;
        extra.credit = Credit::Here;
        self.touch(resource);
    }

    /// Notes that a resource was somewhere else before: a value block of which nothing is known is invalid.
    pub(crate) fn doubt_value(&mut self, resource: u32) {
        let doubtful = &mut self.resources[resource].doubtful;
        if !*doubtful {
            *doubtful = true;
            self.doubted.push(resource);
        }
    }

    /// [SLOT-7] Takes a value block over from elsewhere, unless it is known better already.
    pub(crate) fn learn_value(&mut self, resource: u32, value: &Value, credit: Credit) {
        let extra = self.extra_mut(resource);
        // [SLOT-7] The better source; of two of a kind the one with the higher token.
        if credit > extra.credit {
            extra.value = Some(value.clone());
            extra.credit = credit;
            self.touch(resource);
        }
    }

    /// Notes that what is to be kept of a resource may have changed. Nearly always its lockspace keeps nothing: one test.
    pub(crate) fn touch(&mut self, resource: u32) {
        let space = self.space_of(resource);
        if space.space.persistent {
            let place = (space.id, self.name_of(resource).into());
            self.touched.push(place);
        }
    }

    /// Whether [`Table::take_touched`] has something.
    #[must_use]
    pub fn has_touched(&self) -> bool {
        !self.touched.is_empty()
    }

    /// The resources of persistent lockspaces that changed since this was last asked; some more than once, some in vain.
    pub fn take_touched(&mut self) -> Vec<(SpaceId, Box<[u8]>)> {
        core::mem::take(&mut self.touched)
    }

    /// The value block of a resource, and whether a lock is held on it in a mode that writes. Empty, valid and no where it is not
    /// there.
    #[must_use]
    pub fn value_and_writer(&self, space: SpaceId, name: &[u8]) -> (Value, bool) {
        let found = self.spaces.find(space).and_then(|index| self.find_resource(index, name).0);
        let Some(resource) = found else { return (Value::default(), false) };
        let modes = self.modes_of(resource);
        let held = self.resources[resource].held;
        // [RANGE-6] Who holds a part does not write it.
        let whole = |mode: Mode| !self.is_spread(resource) || self.holds_whole(resource, mode);
        let written = modes.modes().any(|mode| modes.writes(mode) && held.contains(mode) && whole(mode));
        (self.value(resource), written)
    }

    /// Whether nobody can write the value block beside a holder of this mode, whoever of the two came first.
    pub(crate) fn keeps_writers_out(modes: &ModeTable, mode: Mode) -> bool {
        modes.modes().filter(|w| modes.writes(*w)).all(|w| !modes.compatible(w, mode) && !modes.compatible(mode, w))
    }
}
