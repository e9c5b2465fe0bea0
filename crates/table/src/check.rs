//! Proves the whole state: for tests, after every step.

use alloc::{format, string::String, vec::Vec};

use lockstead_types::{ModeSet, Token, mode::MODES_MAX};

use crate::{
    OwnerId, Table,
    grant::Place,
    lock::{Lock, State, Traits},
    owner::ORPHANS,
    slab::NIL,
    store::Ring,
    waits::is_irregular,
};

macro_rules! ensure {
    ($condition:expr, $($text:tt)*) => {
        if !$condition {
            return Err(format!($($text)*));
        }
    };
}

#[derive(Default)]
struct Seen {
    granted: u64,
    converting: u64,
    waiting: u64,
    resources: u32,
    extras: u32,
    nodes: u32,
    long_names: u32,
    sides: u32,
    persistent: u32,
    orphans: usize,
    deadlines: usize,
}

impl Table {
    /// Proves the whole state: the rings and lists, the summaries, that what is granted together is compatible, that
    /// nothing waits that could be granted, and that no deadlock is left.
    ///
    /// # Errors
    /// What is broken.
    pub fn check(&self) -> Result<(), String> {
        let mut seen = Seen::default();
        for index in 0..self.resources.places() {
            if !self.resources[index].is_vacant() {
                self.check_resource(index, &mut seen)?;
            }
        }
        self.check_owners()?;
        self.check_ages()?;
        self.check_cycles()?;
        let locks = seen.granted + seen.converting + seen.waiting;
        ensure!(u64::from(self.locks.used()) == locks, "{} places for {locks} locks", self.locks.used());
        let counts = (self.granted, self.converting, self.waiting);
        let found = (seen.granted, seen.converting, seen.waiting);
        ensure!(counts == found, "counts {counts:?}, found {found:?}");
        ensure!(self.resources.used() == seen.resources, "places of resources");
        ensure!(self.extras.used() == seen.extras, "{} extras, found {}", self.extras.used(), seen.extras);
        ensure!(self.nodes.used() == seen.nodes, "{} extents, found {}", self.nodes.used(), seen.nodes);
        ensure!(self.long_names.used() == seen.long_names, "long names");
        ensure!(self.sides.used() == seen.sides, "{} sides, found {}", self.sides.used(), seen.sides);
        ensure!(self.persistent == seen.persistent, "persistent");
        ensure!(self.labels.len() == seen.orphans, "orphans");
        ensure!(self.deadlines.len() == seen.deadlines, "deadlines");
        let named: usize = self.names.iter().map(hashbrown::HashTable::len).sum();
        ensure!(named == seen.resources as usize, "{named} names, {} resources", seen.resources);
        Ok(())
    }

    fn check_resource(&self, r: u32, seen: &mut Seen) -> Result<(), String> {
        let resource = &self.resources[r];
        let stays = !resource.is_empty() || self.outlives_its_locks(r);
        ensure!(stays, "resource {r} is there without a lock");
        let found = self.find_resource(resource.space, self.name_of(r)).0;
        ensure!(found == Some(r), "resource {r} is not found by its name");
        seen.resources += 1;
        seen.long_names += u32::from(resource.name().is_err());
        if let Some(extra) = self.extra(r) {
            seen.extras += 1;
            ensure!(extra.resource == r, "extra of {r} says {}", extra.resource);
        }
        for (ring, state) in
            [(Ring::Granted, State::Granted), (Ring::Converting, State::Converting), (Ring::Waiting, State::Waiting)]
        {
            for l in self.ring(r, ring) {
                self.check_lock(r, l, state, seen)?;
            }
        }
        seen.nodes += self.check_spread(r)?;
        self.check_summary(r)?;
        self.check_compatible(r)?;
        self.check_order(r)?;
        self.check_nothing_left(r)
    }

    fn check_lock(&self, r: u32, l: u32, state: State, seen: &mut Seen) -> Result<(), String> {
        let lock = &self.locks[l];
        ensure!(lock.resource == r && lock.state == state, "lock {l} is in the wrong ring: {lock:?}");
        ensure!(self.locks[lock.next].prev == l && self.locks[lock.prev].next == l, "ring at lock {l}");
        ensure!(lock.generation > 0, "lock {l} has no generation");
        let wait = self.wait(l);
        ensure!(wait.is_some() == lock.is_pending(), "lock {l} {state:?} and its wait");
        ensure!((self.token(l) != Token::NONE) == lock.is_held(), "lock {l} {state:?} and its token");
        ensure!(self.modes_of(r).has(lock.mode) || lock.traits.has(Traits::PERMITS), "mode of lock {l}");
        ensure!(lock.traits.has(Traits::PERMITS) == self.pool(r).is_some(), "lock {l}: permits or mode");
        if let Some(side) = self.side(l) {
            seen.sides += 1;
            ensure!(side.wait.is_some() || side.tag > 0 || side.more > 0 || lock.is_held(), "empty side of {l}");
        }
        if let Some(deadline) = wait.and_then(|w| w.deadline) {
            seen.deadlines += 1;
            ensure!(self.deadlines.contains(&(deadline, l)), "deadline of lock {l}");
        }
        seen.persistent += u32::from(lock.traits.has(Traits::PERSISTENT));
        seen.orphans += usize::from(lock.owner == ORPHANS);
        ensure!((lock.owner == ORPHANS) == self.labels.contains_key(&l), "label of lock {l}");
        match state {
            State::Granted => seen.granted += 1,
            State::Converting => seen.converting += 1,
            State::Waiting => seen.waiting += 1,
            State::Vacant => {}
        }
        Ok(())
    }

    fn check_summary(&self, r: u32) -> Result<(), String> {
        let mut held = [0u32; MODES_MAX];
        let (mut holders, mut taken) = (0, 0u64);
        for l in self.ring(r, Ring::Granted).chain(self.ring(r, Ring::Converting)) {
            holders += 1;
            taken += u64::from(self.take(l));
            held[usize::from(self.locks[l].mode.0)] += 1;
        }
        let set_of = |counts: &[u32; MODES_MAX]| {
            let bits = counts.iter().enumerate().filter(|(_, n)| **n > 0).fold(0, |set, (m, _)| set | 1u32 << m);
            ModeSet(bits)
        };
        ensure!(self.resources[r].holders == holders, "holders of {r}");
        ensure!(self.resources[r].held == set_of(&held), "modes held of {r}");
        let Some(extra) = self.extra(r) else { return Ok(()) };
        ensure!(extra.counts.as_deref().is_none_or(|c| *c == held), "counts of {r}");
        if let Some(pool) = extra.permits {
            ensure!(u64::from(pool.taken) == taken && pool.taken <= pool.of, "permits of {r}: {pool:?}");
        }
        let Some(queue) = &extra.queue else { return Ok(()) };
        let mut wanted = [0u32; MODES_MAX];
        let (mut irregular, mut due) = (0, 0);
        for l in self.ring(r, Ring::Converting).chain(self.ring(r, Ring::Waiting)) {
            let Some(wait) = self.wait(l) else { continue };
            wanted[usize::from(wait.want.0)] += 1;
            irregular += u32::from(is_irregular(wait.flags));
            due += u32::from(self.is_due(l));
            let bound = self.overtakes_allowed(r);
            ensure!(bound.is_none_or(|b| wait.overtaken <= b), "lock {l} was passed {} times", wait.overtaken);
        }
        let lens = (self.ring(r, Ring::Converting).count(), self.ring(r, Ring::Waiting).count());
        ensure!((queue.converting as usize, queue.waiting as usize) == lens, "lengths of {r}");
        ensure!(queue.wanted == wanted && queue.wanted_set == set_of(&wanted), "wanted of {r}");
        ensure!(queue.irregular == irregular && queue.due == due, "irregular or due of {r}");
        Ok(())
    }

    fn check_compatible(&self, r: u32) -> Result<(), String> {
        if self.pool(r).is_some() {
            return Ok(());
        }
        let modes = self.modes_of(r);
        let holders: Vec<u32> = self.ring(r, Ring::Granted).chain(self.ring(r, Ring::Converting)).collect();
        for (i, a) in holders.iter().enumerate() {
            for b in holders.iter().skip(i + 1) {
                if !self.concern(*a, *b) {
                    continue;
                }
                let (a, b) = (self.locks[*a].mode, self.locks[*b].mode);
                // Of two held together the later one was compatible; the table need not be symmetric.
                ensure!(modes.compatible(a, b) || modes.compatible(b, a), "{a:?} and {b:?} on resource {r}");
            }
        }
        Ok(())
    }

    fn check_order(&self, r: u32) -> Result<(), String> {
        let fair = self.overtakes_allowed(r).is_some();
        let ranks: Vec<i64> = self.ring(r, Ring::Waiting).filter_map(|l| Some(self.wait(l)?.rank)).collect();
        let unordered = self.is_frozen_at(r) && self.queue(r).is_some_and(|q| q.restored);
        ensure!(!fair || unordered || ranks.is_sorted(), "order of those that wait at {r}");
        let tickets: Vec<u64> = self.ring(r, Ring::Waiting).filter_map(|l| Some(self.wait(l)?.ticket)).collect();
        let straight = self.queue(r).is_none_or(|q| q.straight);
        ensure!(!straight || tickets.is_sorted(), "{r} is not straight");
        Ok(())
    }

    /// Liveness: nothing waits that the rules would grant.
    fn check_nothing_left(&self, r: u32) -> Result<(), String> {
        for ring in [Ring::Converting, Ring::Waiting] {
            let head = self.head(r, ring);
            for l in self.ring(r, ring) {
                let place = if l == head { Place::Head } else { Place::Behind };
                let mode = self.grantable(l, place);
                ensure!(mode.is_none(), "lock {l} on resource {r} waits, but may be granted {mode:?}");
            }
        }
        Ok(())
    }

    /// No cycle of waits is left that a search would find: nothing that can close one was forgotten.
    fn check_cycles(&self) -> Result<(), String> {
        for (_, owner) in self.owners.iter() {
            for l in self.owner_ring(owner.first).take(owner.pending as usize) {
                let cycle = self.cycle_through(l);
                ensure!(cycle.is_none(), "a cycle of waits was not broken: {cycle:?}");
            }
        }
        Ok(())
    }

    fn check_owners(&self) -> Result<(), String> {
        self.nest.check(|owner| self.owners.find(OwnerId(owner)).is_some())?;
        for (index, owner) in self.owners.iter() {
            let locks: Vec<u32> = self.owner_ring(owner.first).collect();
            let pending = locks.iter().take_while(|l| self.locks[**l].is_pending()).count();
            let all_pending = locks.iter().filter(|l| self.locks[**l].is_pending()).count();
            ensure!(locks.len() == owner.locks as usize, "owner {index} has {} locks", locks.len());
            ensure!(pending == all_pending && pending == owner.pending as usize, "owner {index}: pending");
            for l in locks {
                let Lock { owner: whose, owner_next, state, .. } = self.locks[l];
                ensure!(whose == index && state != State::Vacant, "lock {l} in the list of owner {index}");
                ensure!(owner_next == NIL || self.locks[owner_next].owner_prev == l, "owner's ring at lock {l}");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::sync::Arc;

    use lockstead_types::{
        Flags, Limits, LockId, Mode, SpaceId, Span, Time,
        request::{Claim, LockRequest, OwnerRef, Wait},
        space::{DeadlockPolicy, QueuePolicy, VictimPolicy},
        tables::built_in,
    };

    use super::*;
    use crate::{Outcome, Space};

    const PR: Mode = Mode(3);
    const EX: Mode = Mode(5);

    fn table() -> Table {
        let mut table = Table::new(Limits::default(), 1, 7);
        let modes = Arc::new(built_in("vms").expect("built in"));
        let (policy, victim) = (QueuePolicy::Vms, VictimPolicy::Requester);
        table.add_space(
            SpaceId(0),
            Space {
                modes,
                policy,
                deadlock: DeadlockPolicy::Detect,
                victim,
                value_bytes: 0,
                levels: 0,
                extents: false,
                persistent: false,
            },
        );
        table
    }

    fn ask(table: &mut Table, owner: OwnerId, name: &[u8], mode: Mode, flags: Flags) -> LockId {
        let request = LockRequest {
            space: SpaceId(0),
            name,
            claim: Claim::Mode(mode),
            wait: Wait::For(Span::from_secs(9)),
            flags,
            owner: OwnerRef::Session,
            tag: 0,
            priority: 0,
        };
        match table.lock(Time::ZERO, owner, 1, &request, &mut Vec::new()) {
            Ok(Outcome::Granted(grant)) => grant.lock,
            Ok(Outcome::Queued(lock)) => lock,
            other => panic!("{other:?}"),
        }
    }

    /// Two readers, and a writer that waits for them.
    fn busy() -> (Table, [u32; 3]) {
        let mut table = table();
        let owners = [table.add_owner(), table.add_owner(), table.add_owner()];
        let locks = [(owners[0], PR), (owners[1], PR), (owners[2], EX)].map(|(owner, mode)| {
            let id = ask(&mut table, owner, b"r", mode, Flags::NONE);
            table.find_lock(owner, id).expect("there")
        });
        assert_eq!(table.check(), Ok(()));
        (table, locks)
    }

    fn broken(table: &Table, words: &str) {
        let what = table.check().expect_err("it was broken on purpose");
        assert!(what.contains(words), "{what}");
    }

    #[test]
    fn what_is_planted_is_found() {
        // Granted beside what it conflicts with, all summaries as they should be.
        let (mut table, [reader, ..]) = busy();
        table.remove_held(reader, PR);
        table.locks[reader].mode = EX;
        table.add_held(reader, EX);
        broken(&table, "on resource");
        // A queue that was not served after a release.
        let (mut table, [one, two, _]) = busy();
        for reader in [one, two] {
            let mode = table.locks[reader].mode;
            table.remove_held(reader, mode);
            table.leave(reader);
            table.free_lock(reader);
        }
        broken(&table, "may be granted");
        // A deadline that was forgotten, and one that outlives its wait.
        let (mut table, [_, _, writer]) = busy();
        let deadline = table.deadlines.first().copied().expect("it waits for nine seconds");
        table.deadlines.clear();
        broken(&table, "deadline of lock");
        table.deadlines.extend([deadline, (Time::from_nanos(1), writer)]);
        broken(&table, "deadlines");
    }

    #[test]
    fn a_cycle_that_is_left_is_found() {
        let mut table = table();
        let (a, b) = (table.add_owner(), table.add_owner());
        for (owner, name) in [(a, b"1"), (b, b"2"), (a, b"2")] {
            ask(&mut table, owner, name, EX, Flags::NONE);
        }
        let last = ask(&mut table, b, b"1", EX, Flags::NODLCKWT);
        assert_eq!(table.check(), Ok(()));
        let last = table.find_lock(b, last).expect("there");
        if let Some(wait) = table.wait_mut(last) {
            wait.flags = Flags::NONE;
        }
        broken(&table, "a cycle of waits was not broken");
    }
}
