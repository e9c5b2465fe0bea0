//! Locks of parts of a resource: who concerns whom there, and what has to be looked at again after a change.
//!
//! In a lockspace with extents every lock of a resource is in an index, those of the whole too. The queues are as elsewhere; but a lock has
//! to do only with those that overlap it, so all that is asked of a queue elsewhere is asked here of the index: what is held in the
//! way, what waits before, whom to tell. `grant` decides by the same rules as ever, of what is left of a queue then.

use alloc::{boxed::Box, collections::BTreeSet, string::String, vec::Vec};
use core::ops::ControlFlow;

use lockstead_types::{
    Flags, Mode, ModeSet, Refusal,
    extent::{Extent, resource_of, split},
};

use crate::{
    Table,
    deadlock::Actor,
    grant::{Place, Standing},
    interval::{self, Sought, Trees, Turn},
    lock::{State, Traits},
    slab::NIL,
    store::Ring,
    table::Call,
};

/// What the extents of a resource are found by, and what is to be looked at before a call ends.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spread {
    trees: Trees,
    /// Those that wait, and may be granted now for all that is known, by their turns.
    ready: BTreeSet<(Turn, u32)>,
    /// Those that came to wait, or to hold, since holders were told.
    untold: Vec<u32>,
}

/// A name of a lockspace taken apart.
#[derive(Debug)]
pub(crate) struct Named<'a> {
    /// The resource.
    pub(crate) name: &'a [u8],
    /// The part of it; `None` in a lockspace that knows no parts.
    pub(crate) extent: Option<Extent>,
}

/// A lock, or one that is about to be: what is asked is asked for it.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Asker<'a> {
    /// [`NIL`] where there is no lock yet.
    pub(crate) me: u32,
    /// Whose; `None` for an orphan, and for a lock that stands alone and is not there yet.
    pub(crate) actor: Option<Actor>,
    pub(crate) extent: &'a Extent,
}

impl Table {
    /// Takes a name apart where its lockspace knows parts.
    ///
    /// # Errors
    /// `Invalid` where it is written otherwise than such names are.
    #[inline]
    pub(crate) fn named<'a>(&self, space: u16, name: &'a [u8]) -> Result<Named<'a>, Refusal> {
        if !self.spaces.get(space).is_some_and(|entry| entry.space.extents) {
            return Ok(Named { name, extent: None });
        }
        // [RANGE-1]
        let (name, extent) = split(name).map_err(|_| Refusal::Invalid)?;
        Ok(Named { name, extent: Some(extent) })
    }

    /// The name of the resource alone.
    pub(crate) fn without_extent<'a>(&self, space: u16, name: &'a [u8]) -> &'a [u8] {
        let extents = self.spaces.get(space).is_some_and(|entry| entry.space.extents);
        if extents { resource_of(name) } else { name }
    }

    /// The name a lock was asked for by.
    pub(crate) fn full_name(&self, l: u32) -> Box<[u8]> {
        let name = self.name_of(self.locks[l].resource);
        self.extent(l).map_or_else(|| name.into(), |extent| extent.name_in(name).into())
    }

    /// How the part of a lock is written; nothing where it is of the whole.
    pub(crate) fn extent_text(&self, l: u32) -> Option<String> {
        self.extent(l).filter(|extent| !extent.is_whole()).map(Extent::text)
    }

    #[inline]
    pub(crate) fn is_spread(&self, resource: u32) -> bool {
        self.resources[resource].extra != NIL && self.spread(resource).is_some()
    }

    /// [RANGE-6] Refuses what a part of a resource does not have: no value block, no place before others, no life after its owner. And
    /// permits, of which no part can be told from another.
    pub(crate) fn check_extent(&self, extent: &Extent, flags: Flags, is_mode: bool) -> Result<(), Refusal> {
        let of_parts = [Flags::VALBLK, Flags::IVVALBLK, Flags::PERSISTENT];
        let wrong =
            !is_mode || flags.has(Flags::HEADQUE) || (!extent.is_whole() && of_parts.iter().any(|f| flags.has(*f)));
        if wrong { Err(Refusal::Invalid) } else { Ok(()) }
    }

    /// The same of a lock that is there.
    #[inline]
    pub(crate) fn check_extent_of(&self, l: u32, flags: Flags) -> Result<(), Refusal> {
        if !self.locks[l].traits.has(Traits::EXTENT) {
            return Ok(());
        }
        self.extent(l).map_or(Ok(()), |extent| self.check_extent(extent, flags, true))
    }

    /// Whether a lock is of a part, so that what it holds says nothing of the value block ([RANGE-6]).
    #[inline]
    pub(crate) fn is_partial(&self, l: u32) -> bool {
        self.locks[l].traits.has(Traits::EXTENT) && self.extent(l).is_some_and(|extent| !extent.is_whole())
    }

    // ------------------------------------------------------------------ index

    fn spread(&self, resource: u32) -> Option<&Spread> {
        self.extra(resource)?.spread.as_deref()
    }

    fn spread_mut(&mut self, resource: u32) -> Option<&mut Spread> {
        let extra = self.resources[resource].extra;
        if extra == NIL { None } else { self.extras[extra].spread.as_deref_mut() }
    }

    #[cold]
    fn node_of(&self, l: u32) -> Option<u32> {
        // Its number is kept where other locks keep permits, one higher: there 0 is nothing.
        let has = self.locks[l].traits.has(Traits::EXTENT);
        if has { self.side(l).and_then(|side| side.more.checked_sub(1)) } else { None }
    }

    pub(crate) fn extent(&self, l: u32) -> Option<&Extent> {
        self.node_of(l).map(|n| &self.nodes[n].extent)
    }

    pub(crate) fn asker(&self, l: u32) -> Option<Asker<'_>> {
        Some(Asker { me: l, actor: self.actor_of(l), extent: self.extent(l)? })
    }

    /// Gives a new lock its extent.
    pub(crate) fn add_extent(&mut self, l: u32, extent: Extent) {
        let extra = self.resources[self.locks[l].resource].extra;
        if extra == NIL {
            return;
        }
        let Some(spread) = self.extras[extra].spread.as_deref_mut() else { return };
        let node = spread.trees.insert(&mut self.nodes, l, extent);
        self.locks[l].traits = self.locks[l].traits.with(Traits::EXTENT);
        self.side_mut(l).more = node + 1;
    }

    /// Takes the extent of a lock that goes.
    pub(crate) fn drop_extent(&mut self, l: u32) {
        let Some(node) = self.node_of(l) else { return };
        // Its resource has an index, or it would have no place there.
        let extra = self.resources[self.locks[l].resource].extra;
        if let Some(spread) = self.extras[extra].spread.as_deref_mut() {
            spread.trees.remove(&mut self.nodes, node);
        }
    }

    fn turn_of(&self, l: u32) -> Turn {
        let Some(wait) = self.wait(l) else { return Turn::NEVER };
        let converting = self.locks[l].state == State::Converting;
        let ranked = !converting && self.overtakes_allowed(self.locks[l].resource).is_some();
        Turn::new(converting, if ranked { wait.rank } else { 0 }, wait.ticket)
    }

    /// Notes what a lock has come to hold, `None` for nothing; what overlaps one that let go may be granted.
    #[inline]
    pub(crate) fn note_held(&mut self, l: u32, held: Option<Mode>) {
        if self.locks[l].traits.has(Traits::EXTENT) {
            self.note_held_part(l, held);
        }
    }

    #[cold]
    fn note_held_part(&mut self, l: u32, held: Option<Mode>) {
        let Some(n) = self.node_of(l) else { return };
        let held = held.map_or(ModeSet::EMPTY, |mode| ModeSet::EMPTY.with(mode));
        if held.is_empty() {
            self.wake_beside(l);
        }
        let turn = self.nodes[n].turn;
        interval::note(&mut self.nodes, n, held, turn);
    }

    /// Notes that a lock has come into a queue, or out of it.
    #[inline]
    pub(crate) fn note_turn(&mut self, l: u32) {
        if self.locks[l].traits.has(Traits::EXTENT) {
            self.note_turn_of_part(l);
        }
    }

    #[cold]
    fn note_turn_of_part(&mut self, l: u32) {
        let Some(n) = self.node_of(l) else { return };
        let (resource, state, turn) = (self.locks[l].resource, self.locks[l].state, self.turn_of(l));
        let (held, before) = (self.nodes[n].held, self.nodes[n].turn);
        interval::note(&mut self.nodes, n, held, turn);
        if turn == Turn::NEVER && before != Turn::NEVER {
            self.wake_beside(l);
        }
        let Some(queue) = self.queue(resource) else {
            if let Some(spread) = self.spread_mut(resource) {
                spread.ready.clear();
                spread.untold.clear();
            }
            return;
        };
        // One with CONVDEADLK may have come to be in a deadlock by it.
        if state == State::Converting && queue.irregular > 0 {
            self.wake_beside(l);
        }
        if turn != Turn::NEVER {
            // Its place may be before those that kept it from being granted as it came.
            self.wake(l);
        }
        if state != State::Vacant {
            self.tell_of(l);
        }
    }

    /// All that waits and overlaps a lock is looked at again before the call ends.
    pub(crate) fn wake_beside(&mut self, l: u32) {
        let resource = self.locks[l].resource;
        if self.queue(resource).is_none() {
            return;
        }
        let (Some(spread), Some(extent)) = (self.spread(resource), self.extent(l)) else { return };
        let mut found = Vec::new();
        let _ = spread.trees.search(&self.nodes, extent, Sought::Before(Turn::NEVER), &mut |node| {
            found.push((node.turn, node.lock));
            ControlFlow::Continue(())
        });
        if let Some(spread) = self.spread_mut(resource) {
            spread.ready.extend(found);
        }
    }

    /// One that waits is looked at again before the call ends.
    pub(crate) fn wake(&mut self, l: u32) {
        let (resource, turn) = (self.locks[l].resource, self.turn_of(l));
        if let Some(spread) = self.spread_mut(resource) {
            spread.ready.insert((turn, l));
        }
    }

    /// All that waits at a resource has its place now, and is looked at again.
    pub(crate) fn wake_all(&mut self, resource: u32) {
        if !self.is_spread(resource) {
            return;
        }
        let all: Vec<u32> = self.ring(resource, Ring::Converting).chain(self.ring(resource, Ring::Waiting)).collect();
        for l in all {
            self.note_turn(l);
            self.wake(l);
        }
    }

    /// Holders are told of a lock that waits, or it of those that wait, before the call ends.
    pub(crate) fn tell_of(&mut self, l: u32) {
        let resource = self.locks[l].resource;
        if self.queue(resource).is_some()
            && let Some(spread) = self.spread_mut(resource)
        {
            spread.untold.push(l);
        }
    }

    // ---------------------------------------------------------------- concern

    /// [RANGE-2] Whether two locks of one resource have to do with each other: they overlap, and [RANGE-3] are not of one owner. In a
    /// lockspace without extents all have.
    #[inline]
    pub(crate) fn concern(&self, a: u32, b: u32) -> bool {
        !self.locks[a].traits.has(Traits::EXTENT) || self.asker(a).is_none_or(|asker| self.concerns(&asker, b))
    }

    pub(crate) fn concerns(&self, asker: &Asker<'_>, other: u32) -> bool {
        let Some(extent) = self.extent(other) else { return true };
        other != asker.me && self.is_of_others(asker, extent, other) && extent.overlaps(asker.extent)
    }

    /// [RANGE-3] The parts that one thread of control has are not in its own way. Two of the whole are, as elsewhere ([MODE-1]).
    fn is_of_others(&self, asker: &Asker<'_>, extent: &Extent, other: u32) -> bool {
        let own = asker.actor.is_some() && asker.actor == self.actor_of(other);
        !own || (extent.is_whole() && asker.extent.is_whole())
    }

    /// The locks that are sought and concern who asks, in no order.
    pub(crate) fn concerned(&self, resource: u32, asker: &Asker<'_>, sought: Sought) -> Vec<u32> {
        let mut found = Vec::new();
        self.look_beside(resource, asker, sought, &mut |l| {
            found.push(l);
            ControlFlow::Continue(())
        });
        found
    }

    /// One of them.
    fn one_concerned(&self, resource: u32, asker: &Asker<'_>, sought: Sought) -> Option<u32> {
        let mut found = None;
        self.look_beside(resource, asker, sought, &mut |l| {
            found = Some(l);
            ControlFlow::Break(())
        });
        found
    }

    fn look_beside(
        &self,
        resource: u32,
        asker: &Asker<'_>,
        sought: Sought,
        visit: &mut dyn FnMut(u32) -> ControlFlow<()>,
    ) {
        let Some(spread) = self.spread(resource) else { return };
        let _ = spread.trees.search(&self.nodes, asker.extent, sought, &mut |node| {
            if node.lock != asker.me && self.is_of_others(asker, &node.extent, node.lock) {
                return visit(node.lock);
            }
            ControlFlow::Continue(())
        });
    }

    /// What waits and concerns who asks.
    pub(crate) fn waiting_beside(&self, resource: u32, asker: &Asker<'_>) -> Vec<u32> {
        self.concerned(resource, asker, Sought::Before(Turn::NEVER))
    }

    /// What waits before a lock and concerns it.
    pub(crate) fn waiting_before(&self, l: u32) -> Vec<u32> {
        let (resource, turn) = (self.locks[l].resource, self.turn_of(l));
        self.asker(l).map_or_else(Vec::new, |asker| self.concerned(resource, &asker, Sought::Before(turn)))
    }

    /// What holds one of some modes and concerns who asks.
    pub(crate) fn holding_beside(&self, resource: u32, asker: &Asker<'_>, modes: ModeSet) -> Vec<u32> {
        self.concerned(resource, asker, Sought::Held(modes))
    }

    /// The lock of exactly this extent that is the one meant.
    pub(crate) fn equal_extent(&self, resource: u32, extent: &Extent, is: impl Fn(u32) -> bool) -> Option<u32> {
        let spread = self.spread(resource)?;
        spread.trees.equal(&self.nodes, extent).into_iter().find(|l| is(*l))
    }

    /// Whether somebody holds the whole in a mode.
    pub(crate) fn holds_whole(&self, resource: u32, mode: Mode) -> bool {
        let held = |l: u32| self.locks[l].is_held() && self.locks[l].mode == mode;
        self.equal_extent(resource, &Extent::default(), held).is_some()
    }

    /// The modes that those wait for whom a lock concerns.
    pub(crate) fn wanted_beside(&self, l: u32) -> ModeSet {
        let resource = self.locks[l].resource;
        let Some(asker) = self.asker(l) else { return self.queue(resource).map_or(ModeSet::EMPTY, |q| q.wanted_set) };
        self.wanted_of(&self.waiting_beside(resource, &asker))
    }

    fn wanted_of(&self, waiting: &[u32]) -> ModeSet {
        let wants = waiting.iter().filter_map(|w| self.wait(*w));
        wants.fold(ModeSet::EMPTY, |set, wait| set.with(wait.want))
    }

    /// [MODE-3] Whether one of some modes is held or wanted by what concerns who asks.
    pub(crate) fn is_there(&self, resource: u32, asker: &Asker<'_>, modes: ModeSet) -> bool {
        !modes.is_empty()
            && (self.one_concerned(resource, asker, Sought::Held(modes)).is_some()
                || !self.wanted_of(&self.waiting_beside(resource, asker)).is_disjoint(modes))
    }

    /// [RANGE-4] How things stand for who asks for a mode, among those it has to do with.
    pub(crate) fn standing_beside(&self, resource: u32, asker: &Asker<'_>, mode: Mode, place: Place) -> Standing {
        let conflicts = self.modes_of(resource).conflicts_of(mode);
        // Of those in the way one is enough.
        let rival = self.one_concerned(resource, asker, Sought::Held(conflicts));
        let others = rival.map_or(ModeSet::EMPTY, |l| ModeSet::EMPTY.with(self.locks[l].mode));
        let before = |turn: Turn| self.one_concerned(resource, asker, Sought::Before(turn)).is_some();
        let mut standing = Standing { others, ..self.standing(resource, place) };
        match place {
            Place::Arriving => {
                standing.converting = standing.converting && before(Turn::NEW);
                standing.waiting = standing.waiting && before(Turn::NEVER);
            }
            Place::Head | Place::Behind => {
                // Conversions that it has to do with stand before it too.
                let turn = if asker.me == NIL { Turn::NEVER } else { self.turn_of(asker.me) };
                standing.place = if before(turn) { Place::Behind } else { Place::Head };
                (standing.converting, standing.waiting) = (false, false);
            }
        }
        standing
    }

    // ------------------------------------------------------------------ serve

    /// [RANGE-5] Grants what may be granted of what overlaps something that changed, always the first of it by its turn; then tells holders.
    pub(crate) fn settle_spread(&mut self, call: &mut Call<'_>, resource: u32) {
        while let Some((_, l)) = self.spread_mut(resource).and_then(|spread| spread.ready.pop_first()) {
            if self.locks[l].resource == resource && self.locks[l].is_pending() {
                self.serve(call, l, Place::Head);
            }
        }
        let untold = self.spread_mut(resource).map(|spread| core::mem::take(&mut spread.untold));
        for l in untold.unwrap_or_default() {
            if self.locks[l].resource == resource {
                self.tell_beside(call, l);
            }
        }
    }

    /// [RANGE-7] Tells those in the way of one that waits, or one that holds of those it is in the way of.
    fn tell_beside(&mut self, call: &mut Call<'_>, l: u32) {
        let resource = self.locks[l].resource;
        if self.locks[l].state == State::Granted {
            let wanted = self.wanted_beside(l);
            return self.tell_one(call, l, wanted, None);
        }
        let (Some(want), Some(asker)) = (self.wait(l).map(|wait| wait.want), self.asker(l)) else { return };
        let holders = self.holding_beside(resource, &asker, self.modes_of(resource).conflicts_of(want));
        for h in holders {
            // [BLOCK-4] A lock that converts gets none.
            if self.locks[h].state == State::Granted {
                self.tell_one(call, h, ModeSet::EMPTY.with(want), None);
            }
        }
    }

    /// For [`Table::check`]: the index says what the queues say.
    pub(crate) fn check_spread(&self, resource: u32) -> Result<u32, String> {
        let rings = [Ring::Granted, Ring::Converting, Ring::Waiting];
        let all: Vec<u32> = rings.into_iter().flat_map(|ring| self.ring(resource, ring)).collect();
        let Some(spread) = self.spread(resource) else {
            let stray = all.iter().any(|l| self.locks[*l].traits.has(Traits::EXTENT));
            return if stray { Err(alloc::format!("a part of {resource}")) } else { Ok(0) };
        };
        let wrong = |what: &str| Err(alloc::format!("extents of resource {resource}: {what}"));
        let count = spread.trees.check(&self.nodes).map_err(|what| alloc::format!("extents of {resource}: {what}"))?;
        if count as usize != all.len() {
            return wrong("others than its locks");
        }
        if !self.is_frozen_at(resource) && (!spread.ready.is_empty() || !spread.untold.is_empty()) {
            return wrong("something was not looked at");
        }
        for l in &all {
            let (Some(n), Some(asker)) = (self.node_of(*l), self.asker(*l)) else { return wrong("a lock has none") };
            let node = &self.nodes[n];
            let held = self.locks[*l].is_held().then_some(self.locks[*l].mode);
            let ordered = self.is_frozen_at(resource) || node.turn == self.turn_of(*l);
            if node.lock != *l || node.held != held.map_or(ModeSet::EMPTY, |m| ModeSet::EMPTY.with(m)) || !ordered {
                return wrong("it knows something else of a lock");
            }
            let mut found = self.concerned(resource, &asker, Sought::All);
            let mut there: Vec<u32> = all.iter().copied().filter(|other| self.concerns(&asker, *other)).collect();
            found.sort_unstable();
            there.sort_unstable();
            if found != there {
                return wrong("a search finds other locks than those that overlap");
            }
        }
        Ok(count)
    }
}
