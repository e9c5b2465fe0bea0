//! Slots: which of them are frozen, what ends a freeze, and giving a slot up.
//!
//! A slot is frozen while it is not yet certain that everybody who may hold a lock in it has said so: after a restart of
//! the node, and where the node has become master of a slot. In it requests and conversions queue, nothing is granted, and
//! nothing is concluded from who waits for whom.

use alloc::{boxed::Box, vec::Vec};

use lockstead_types::{Flags, Refusal, Slot, SlotSet, SpaceId, Time, report::VictimReason, space::slot_key};

use crate::{
    Effect, Table, grant::Place, lock::State, owner::ORPHANS, resource::Credit, slab::NIL, store::Ring, table::Call,
    waits::End,
};

impl Table {
    /// Sets the seed by which names belong to slots: the cluster's own. To be set before any slot is frozen or exported.
    pub fn set_slot_seed(&mut self, seed: u64) {
        self.slot_seed = seed;
    }

    /// Starts the freeze after a restart: until the thaw nothing new is granted in any slot ([FREEZE-1]).
    pub fn freeze(&mut self) {
        self.freeze_slots(&SlotSet::FULL);
    }

    /// Freezes some slots: until they are thawed nothing new is granted in them ([SLOT-1]). What waits there already goes on
    /// waiting.
    pub fn freeze_slots(&mut self, slots: &SlotSet) {
        if !slots.is_empty() {
            self.frozen.get_or_insert_with(|| Box::new(SlotSet::EMPTY)).insert_all(slots);
        }
    }

    /// Whether all slots are frozen.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.frozen.as_deref() == Some(&SlotSet::FULL)
    }

    /// Whether a slot is frozen.
    #[must_use]
    pub fn is_frozen_slot(&self, slot: Slot) -> bool {
        self.frozen.as_deref().is_some_and(|frozen| frozen.has(slot))
    }

    /// The slots that are frozen.
    #[must_use]
    pub fn frozen_slots(&self) -> SlotSet {
        self.frozen.as_deref().cloned().unwrap_or_default()
    }

    /// Ends every freeze and serves every queue ([FREEZE-2]).
    pub fn thaw(&mut self, now: Time, fx: &mut Vec<Effect>) {
        self.thaw_slots(now, &SlotSet::FULL, fx);
    }

    /// Ends the freeze of some slots, serves their queues and searches for cycles ([SLOT-3]). Slots that are not frozen are
    /// left alone.
    pub fn thaw_slots(&mut self, now: Time, slots: &SlotSet, fx: &mut Vec<Effect>) {
        let Some(frozen) = &mut self.frozen else { return };
        let mut thawed = (**frozen).clone();
        thawed.keep_only(slots);
        frozen.remove_all(slots);
        if frozen.is_empty() {
            self.frozen = None;
            self.doubted = Vec::new();
        }
        if thawed.is_empty() {
            return;
        }
        let mut call = Call::new(now, fx);
        for place in 0..self.extras.places() {
            let resource = self.extras[place].resource;
            if resource == NIL || !thawed.has(self.slot_of(resource)) {
                continue;
            }
            // From here on the value block is what it is, however it was learnt.
            self.extras[place].credit = Credit::Here;
            if self.resources[resource].is_empty() {
                if !self.outlives_its_locks(resource) {
                    self.free_resource(resource);
                }
            } else if self.queue(resource).is_some() {
                self.serve_thawed(&mut call, resource);
            }
        }
        // [FREEZE-2] Searched once all are served: what one queue lets go of may be what another waits for.
        self.resolve(&mut call);
    }

    /// Gives slots up: everything in them vanishes, as if it had never been here, and they are not frozen any more. Nobody is
    /// told of anything ([SLOT-4]).
    pub fn drop_slots(&mut self, slots: &SlotSet) {
        for resource in 0..self.resources.places() {
            if !self.resources[resource].is_vacant() && slots.has(self.slot_of(resource)) {
                self.drop_resource(resource);
            }
        }
        if let Some(frozen) = &mut self.frozen {
            frozen.remove_all(slots);
            if frozen.is_empty() {
                self.frozen = None;
                self.doubted = Vec::new();
            }
        }
    }

    /// The slot of a resource.
    pub(crate) fn slot_of(&self, resource: u32) -> Slot {
        let space = self.space_of(resource);
        Slot::of(self.slot_seed, space.id, slot_key(self.name_of(resource), space.space.levels, false))
    }

    /// Whether a resource is in a frozen slot.
    #[inline]
    pub(crate) fn is_frozen_at(&self, resource: u32) -> bool {
        // [SLOT-1] Its own slot, and no other. Nothing is frozen nearly always: one test.
        self.frozen.as_deref().is_some_and(|frozen| frozen.has(self.slot_of(resource)))
    }

    /// Whether a name, of which there may be no resource, is in a frozen slot.
    #[inline]
    pub(crate) fn is_frozen_name(&self, space: SpaceId, name: &[u8]) -> bool {
        let naming = || self.space(space).map_or((0, false), |s| (s.levels, s.extents));
        let slot = || {
            let (levels, extents) = naming();
            Slot::of(self.slot_seed, space, slot_key(name, levels, extents))
        };
        self.frozen.as_deref().is_some_and(|frozen| frozen.has(slot()))
    }

    /// Serves the queues of a resource whose slot is thawed.
    fn serve_thawed(&mut self, call: &mut Call<'_>, resource: u32) {
        self.order_again(resource);
        // [SLOT-3] A conversion that came during the freeze may have been one that is granted in place ([CONV-1]) and does not wait
        // behind another. Without this: a holds CR, b waits to convert to EX, a's conversion to PR comes during the freeze and joins
        // the end: a waits behind b, b waits for a, and one of them dies of the freeze.
        let mut came: Vec<u32> = self.ring(resource, Ring::Converting).collect();
        came.retain(|l| self.wait_mut(*l).is_some_and(|w| core::mem::take(&mut w.held_up)));
        for l in &came {
            let behind = self.wait(*l).is_none_or(|w| w.flags.has(Flags::QUECVT));
            if !behind && self.grantable(*l, Place::Arriving).is_some() {
                self.serve(call, *l, Place::Arriving);
            }
        }
        self.wake_all(resource);
        self.settle(call, resource);
        self.end_conversion_deadlocks(call, resource, came);
        for ring in [Ring::Converting, Ring::Waiting] {
            let waiting: Vec<u32> = self.ring(resource, ring).collect();
            for l in waiting {
                self.suspect(call, l);
                // [PREVENT-3] Under the other policies too.
                if self.is_of_wounded(l) {
                    call.joints.push((l, self.locks[l].generation));
                }
            }
        }
    }

    /// [DEAD-1] is asked when a conversion comes, but not during a freeze: of those that came then the later ones pay now.
    fn end_conversion_deadlocks(&mut self, call: &mut Call<'_>, resource: u32, mut came: Vec<u32>) {
        came.retain(|l| self.locks[*l].state == State::Converting);
        came.sort_unstable_by_key(|l| core::cmp::Reverse(self.wait(*l).map_or(0, |w| w.ticket)));
        let mut ended = false;
        for l in came {
            let Some(wait) = self.wait(l) else { continue };
            let (want, flags) = (wait.want, wait.flags);
            let stays = flags.has(Flags::NODLCKWT);
            let wanted = self.queue(resource).map_or(Default::default(), |q| q.wanted_set);
            // Most hold what is in nobody's way: no need to look at all the others.
            let harmless = self.modes_of(resource).blocked_by(self.locks[l].mode).is_disjoint(wanted);
            let Some(rival) = (!stays && !harmless).then(|| self.in_conversion_deadlock(l)).flatten() else { continue };
            if self.is_settled_by_age(l, rival, flags) {
                continue;
            }
            self.report_conversion_deadlock(call, l, rival, want, VictimReason::Conversion);
            self.end_wait(call, l, End::Refused(Refusal::Deadlock));
            ended = true;
        }
        if ended {
            self.settle(call, resource);
        }
    }

    fn drop_resource(&mut self, resource: u32) {
        let rings = [Ring::Waiting, Ring::Converting, Ring::Granted];
        let all: Vec<u32> = rings.into_iter().flat_map(|ring| self.ring(resource, ring)).collect();
        for l in all {
            let (held, mode, orphan) = (self.locks[l].is_held(), self.locks[l].mode, self.locks[l].owner == ORPHANS);
            // [SLOT-4] No effect, and no trace: not in its owner's list, not among deadlines or orphans.
            if orphan {
                self.labels.remove(&l);
            }
            self.leave(l);
            if held {
                self.remove_held(l, mode);
            }
            self.free_lock(l);
        }
        // One that outlives its locks during a freeze.
        if !self.resources[resource].is_vacant() {
            self.free_resource(resource);
        }
    }

    /// Whether a resource on which no lock is left stays until the thaw: its value block is known, and others may yet say that
    /// they have locks on it ([SLOT-7]).
    pub(crate) fn outlives_its_locks(&self, resource: u32) -> bool {
        let extra = self.extra(resource);
        let known = extra.is_some_and(|e| e.value.is_some() || e.credit > Credit::Nothing);
        // [PERSIST-1]
        let value = extra.and_then(|e| e.value.as_ref());
        let kept = value.is_some_and(|value| value.invalid || !value.bytes.is_empty());
        ((known || self.resources[resource].doubtful) && self.is_frozen_at(resource))
            || (kept && self.space_of(resource).space.persistent)
    }
}
