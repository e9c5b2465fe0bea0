//! A million seeded random commands over few names, owners and lockspaces. After each one the table proves its own state,
//! and a model that knows nothing but answers and effects proves that what is held together is compatible, that tokens
//! rise, that in `fair` lockspaces nobody is passed more often than the bound says, and that in those that prevent deadlocks
//! nobody waits for whom it may not wait for.
//!
//! `LOCKSTEAD_SEED=n` runs the one world of that seed again.

#[path = "random/ages.rs"]
mod ages;

use std::{collections::BTreeMap, sync::Arc};

use lockstead_table::{Effect, Ending, Outcome, OwnerId, Space, Table};
use lockstead_types::{
    Age, Flags, Limits, LockId, Mode, ModeTable, Refusal, SessionId, Slot, SpaceId, Span, Time, Token,
    message::Reclaim,
    reply::Grant,
    report::Holder,
    request::{Claim, ConvertRequest, LockRequest, OwnerRef, ReleaseRequest, Wait},
    space::{DeadlockPolicy, QueuePolicy, VictimPolicy},
    tables::built_in,
};

const WORLDS: u64 = 500;
const COMMANDS: u64 = 2_000;
const BOUND: u16 = 3;

struct Dice(u64);

impl Dice {
    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

/// A lock as its owner was told of it.
#[derive(Clone, Debug)]
struct Known {
    owner: Option<OwnerId>,
    space: SpaceId,
    name: Vec<u8>,
    held: Option<Claim>,
    /// It waits with CONVDEADLK, which may have let go of the held mode: the end of the wait says.
    unsure: bool,
    persistent: bool,
    alone: bool,
    /// NODLCKBLK.
    no_edge: bool,
    token: Token,
    wait: Option<Waiting>,
}

#[derive(Clone, Debug)]
struct Waiting {
    came: u64,
    want: Claim,
    alternative: bool,
    /// NODLCKWT.
    no_edge: bool,
    passed: u16,
}

struct World {
    table: Table,
    dice: Dice,
    now: Time,
    spaces: Vec<(SpaceId, Arc<ModeTable>, bool)>,
    policies: Vec<DeadlockPolicy>,
    owners: Vec<OwnerId>,
    /// Who runs within whom, by the inner one.
    outer: BTreeMap<OwnerId, OwnerId>,
    /// The ages of transactions, and whether they are wounded.
    ages: BTreeMap<OwnerId, (Age, bool)>,
    locks: BTreeMap<LockId, Known>,
    came: u64,
    newest: Token,
    next_session: u128,
    granted: u64,
    deadlocks: u64,
    /// Of those, cycles that run from an owner to one within it.
    nested: u64,
    waited: u64,
    aborted: u64,
    wounded: u64,
}

const NAMES: [&[u8]; 3] = [b"a", b"a name that is too long to be kept inline", b"c"];

impl World {
    fn new(seed: u64) -> World {
        let mut dice = Dice(seed);
        let limits = Limits {
            locks_per_session: 12,
            locks: 50,
            resources: 8,
            waiters_per_resource: 6,
            orphans: 3,
            ..Limits::default()
        };
        let mut table = Table::new(limits, 2, seed);
        let (mut spaces, mut policies) = (Vec::new(), Vec::new());
        for n in 0..2 {
            let name =
                if dice.one_in(2) { "vms" } else { dice.pick(&["vms", "granular", "sqlserver", "postgres", "rw"]) };
            let modes = Arc::new(built_in(name).expect("built in"));
            let fair = dice.one_in(2);
            let ageing = Span::from_millis(5);
            let policy = if fair { QueuePolicy::Fair { overtakes: BOUND, ageing } } else { QueuePolicy::Vms };
            let deadlock = ages::draw_policy(&mut dice);
            policies.push(deadlock);
            let victims = [
                VictimPolicy::Requester,
                VictimPolicy::Youngest,
                VictimPolicy::FewestLocks,
                VictimPolicy::LowestPriority,
            ];
            let victim = dice.pick(&victims);
            let space = Space {
                modes: Arc::clone(&modes),
                policy,
                deadlock,
                victim,
                value_bytes: 0,
                levels: 0,
                extents: false,
                persistent: false,
            };
            table.add_space(SpaceId(n), space);
            spaces.push((SpaceId(n), modes, fair));
        }
        let mut world = World {
            table,
            dice,
            now: Time::from_nanos(1_000_000_000),
            spaces,
            policies,
            owners: Vec::new(),
            outer: BTreeMap::new(),
            ages: BTreeMap::new(),
            locks: BTreeMap::new(),
            came: 0,
            newest: Token::NONE,
            next_session: 1,
            granted: 0,
            deadlocks: 0,
            nested: 0,
            waited: 0,
            aborted: 0,
            wounded: 0,
        };
        for _ in 0..4 {
            world.add_owner();
        }
        if world.dice.one_in(4) {
            world.table.freeze();
        }
        world
    }

    fn add_owner(&mut self) {
        let owner = self.table.add_owner();
        self.table.set_owner_label(owner, SessionId(self.next_session));
        self.next_session += 1;
        self.owners.push(owner);
        self.set_age(owner, &mut Vec::new());
    }

    // --------------------------------------------------------------- commands

    fn step(&mut self) {
        self.now = self.now.after(Span::from_nanos(self.dice.below(2_000_000)));
        let mut fx = Vec::new();
        let command = self.dice.below(100);
        match command {
            0..40 => self.lock(&mut fx),
            40..60 => self.convert(&mut fx),
            60..80 => self.release(&mut fx),
            80..84 => self.cancel(&mut fx),
            84..86 => self.begin_or_end(&mut fx),
            86..92 => {
                self.table.expire(self.now, &mut fx);
                self.learn(&fx);
            }
            92..94 => self.end_owner(&mut fx),
            94 => self.nest(&mut fx),
            95 => self.force_release(&mut fx),
            96 => self.purge(&mut fx),
            97 => self.restart(&mut fx),
            98 => self.freeze_one(),
            _ => self.look(),
        }
        self.prove();
    }

    fn flags(&mut self, all: &[Flags]) -> Flags {
        let mut flags = Flags::NONE;
        for flag in all {
            if self.dice.one_in(12) {
                flags = flags.with(*flag);
            }
        }
        flags
    }

    fn wait(&mut self) -> Wait {
        match self.dice.below(4) {
            0 => Wait::Never,
            1 => Wait::For(Span::from_millis(self.dice.below(20))),
            _ => Wait::Forever,
        }
    }

    fn mode(&mut self, modes: &ModeTable) -> Mode {
        if self.dice.one_in(60) { Mode(modes.count() as u8) } else { Mode(self.dice.below(modes.count() as u64) as u8) }
    }

    fn lock(&mut self, fx: &mut Vec<Effect>) {
        let (space, modes, _) = self.spaces[self.dice.below(self.spaces.len() as u64) as usize].clone();
        let name = self.dice.pick(&NAMES);
        let claim = if name == b"c" {
            Claim::Permits { take: 1 + self.dice.below(3) as u32, of: 4 }
        } else {
            Claim::Mode(self.mode(&modes))
        };
        let flags = self.flags(&[
            Flags::NOQUEUE,
            Flags::VALBLK,
            Flags::PERSISTENT,
            Flags::NODLCKWT,
            Flags::NODLCKBLK,
            Flags::EXPEDITE,
            Flags::NOQUEUEBAST,
            Flags::HEADQUE,
            Flags::NOORDER,
            Flags::ORPHAN,
            Flags::ALTPR,
            Flags::ALTCW,
            Flags::NOBAST,
        ]);
        let owner = self.dice.pick(&self.owners.clone());
        let kind = if self.dice.one_in(3) { OwnerRef::Alone } else { OwnerRef::Session };
        let req = LockRequest {
            space,
            name,
            claim,
            wait: self.wait(),
            flags,
            owner: kind,
            tag: self.dice.below(3) as u32,
            priority: self.dice.below(5) as i8 - 2,
        };
        self.came += 1;
        let answer = self.table.lock(self.now, owner, self.came, &req, fx);
        assert!(answer.is_err() || kind == OwnerRef::Alone || !self.is_wounded(owner), "one that is wounded has more");
        self.aborted += u64::from(answer == Err(Refusal::Aborted));
        let known = Known {
            owner: Some(owner),
            space,
            name: name.to_vec(),
            held: None,
            unsure: false,
            persistent: flags.has(Flags::PERSISTENT),
            alone: kind == OwnerRef::Alone,
            no_edge: flags.has(Flags::NODLCKBLK),
            token: Token::NONE,
            wait: None,
        };
        if let Ok(Outcome::Queued(id)) = &answer {
            self.waited += 1;
            let wait = Waiting {
                came: self.came,
                want: claim,
                alternative: flags.has(Flags::ALTPR) || flags.has(Flags::ALTCW),
                no_edge: flags.has(Flags::NODLCKWT),
                passed: 0,
            };
            // What it caused for others may be about itself too: a later deadlock of the same call, say.
            self.locks.insert(*id, Known { wait: Some(wait), ..known.clone() });
        }
        self.learn(fx);
        if let Ok(Outcome::Granted(grant)) = &answer {
            let adopted = flags.has(Flags::ORPHAN);
            self.locks.entry(grant.lock).or_insert_with(|| known.clone());
            let lock = self.locks.get_mut(&grant.lock).expect("just inserted");
            assert!(adopted == lock.held.is_some(), "granted a lock that is there: {lock:?}");
            *lock = Known { held: lock.held, token: lock.token, ..known };
            self.learn_grant(grant, self.came, adopted);
        }
    }

    fn convert(&mut self, fx: &mut Vec<Effect>) {
        let Some(id) = self.some_lock() else { return };
        let known = self.locks[&id].clone();
        let Some(owner) = known.owner else { return };
        let modes = self.spaces.iter().find(|s| s.0 == known.space).expect("space").1.clone();
        let flags = self.flags(&[
            Flags::NOQUEUE,
            Flags::VALBLK,
            Flags::PERSISTENT,
            Flags::NODLCKWT,
            Flags::IVVALBLK,
            Flags::QUECVT,
            Flags::CONVDEADLK,
            Flags::CONVDEADLK,
            Flags::NOQUEUEBAST,
            Flags::HEADQUE,
            Flags::NOORDER,
            Flags::ALTPR,
            Flags::ALTCW,
        ]);
        let bytes = [7u8; 70];
        let value = flags.has(Flags::VALBLK).then(|| &bytes[..self.dice.below(68) as usize]);
        let req = ConvertRequest { lock: id, mode: self.mode(&modes), wait: self.wait(), flags, value };
        self.came += 1;
        let answer = self.table.convert(self.now, owner, self.came, &req, fx);
        self.aborted += u64::from(answer == Err(Refusal::Aborted));
        if let Ok(Outcome::Queued(_)) = &answer {
            self.waited += 1;
            let lock = self.locks.get_mut(&id).expect("known");
            lock.persistent = flags.has(Flags::PERSISTENT);
            lock.no_edge = flags.has(Flags::NODLCKBLK);
            lock.unsure |= flags.has(Flags::CONVDEADLK);
            lock.wait = Some(Waiting {
                came: self.came,
                want: Claim::Mode(req.mode),
                alternative: flags.has(Flags::ALTPR) || flags.has(Flags::ALTCW),
                no_edge: flags.has(Flags::NODLCKWT),
                passed: 0,
            });
        }
        if matches!(&answer, Ok(Outcome::Granted(g)) if g.demoted) {
            self.locks.get_mut(&id).expect("known").unsure = true;
        }
        // [DEAD-12] Demoted first, and then the victim of another cycle.
        if let Ok(Outcome::Demoted { held, .. }) = &answer {
            self.locks.get_mut(&id).expect("known").held = Some(*held);
        }
        self.learn(fx);
        if let Ok(Outcome::Granted(grant)) = &answer {
            let lock = self.locks.get_mut(&id).expect("known");
            lock.persistent = flags.has(Flags::PERSISTENT);
            lock.no_edge = flags.has(Flags::NODLCKBLK);
            self.learn_grant(grant, self.came, false);
        }
    }

    fn release(&mut self, fx: &mut Vec<Effect>) {
        let Some(id) = self.some_lock() else { return };
        let known = self.locks[&id].clone();
        let Some(owner) = known.owner else { return };
        let flags = self.flags(&[Flags::VALBLK, Flags::IVVALBLK, Flags::FORCEUNLOCK, Flags::FORCEUNLOCK]);
        let value = flags.has(Flags::VALBLK).then_some(&b"written"[..]);
        let answer = self.table.release(self.now, owner, &ReleaseRequest { lock: id, flags, value }, fx);
        assert_eq!(answer.is_ok(), known.wait.is_none() || flags.has(Flags::FORCEUNLOCK), "{answer:?} {known:?}");
        if answer.is_ok() {
            let waits = |f: &&Effect| matches!(f, Effect::Cancelled { lock, .. } if *lock == id);
            assert_eq!(fx.iter().find(waits).is_some(), known.wait.is_some());
            self.locks.remove(&id);
        }
        self.learn(fx);
    }

    fn cancel(&mut self, fx: &mut Vec<Effect>) {
        let Some(id) = self.some_lock() else { return };
        let known = self.locks[&id].clone();
        let Some(owner) = known.owner else { return };
        let answer = self.table.cancel(self.now, owner, id, fx);
        assert_eq!(answer.is_ok(), known.wait.is_some());
        self.learn(fx);
    }

    fn end_owner(&mut self, fx: &mut Vec<Effect>) {
        let at = self.dice.below(self.owners.len() as u64) as usize;
        let owner = self.owners.remove(at);
        self.outer.retain(|inner, outer| *inner != owner && *outer != owner);
        self.ages.remove(&owner);
        let ending = if self.dice.one_in(2) { Ending::Crash } else { Ending::Goodbye };
        self.table.end_owner(self.now, owner, ending, fx);
        let ended = |f: &Effect| matches!(f, Effect::Refused { owner: o, .. } if *o == owner);
        let of_it: Vec<Effect> = fx.iter().filter(|f| ended(f)).cloned().collect();
        self.learn(&of_it);
        self.locks.retain(|_, l| l.owner != Some(owner) || l.persistent);
        for lock in self.locks.values_mut().filter(|l| l.owner == Some(owner)) {
            assert!(lock.wait.is_none(), "still waits after its owner ended");
            lock.owner = None;
        }
        fx.retain(|f| !ended(f));
        self.learn(fx);
        self.add_owner();
    }

    /// One owner says that it runs within another.
    fn nest(&mut self, fx: &mut Vec<Effect>) {
        let (inner, outer) = (self.dice.pick(&self.owners), self.dice.pick(&self.owners));
        let ring = self.outwards(outer).any(|o| o == inner);
        let counts = self.table.set_outer(self.now, inner, outer, fx);
        assert_eq!(counts, !ring && !self.outer.contains_key(&inner));
        if counts {
            self.outer.insert(inner, outer);
        }
        self.learn(fx);
    }

    fn outwards(&self, owner: OwnerId) -> impl Iterator<Item = OwnerId> {
        core::iter::successors(Some(owner), |o| self.outer.get(o).copied())
    }

    fn force_release(&mut self, fx: &mut Vec<Effect>) {
        let Some(id) = self.some_lock() else { return };
        let known = self.locks[&id].clone();
        let answer = self.table.force_release(self.now, known.space, &known.name, known.token, fx);
        assert_eq!(answer.is_ok(), known.held.is_some(), "{answer:?} {known:?}");
        if known.owner.is_none() && answer.is_ok() {
            self.locks.remove(&id);
        }
        self.learn(fx);
    }

    fn purge(&mut self, fx: &mut Vec<Effect>) {
        let space = self.spaces[0].0;
        let orphans = self.locks.values().filter(|l| l.owner.is_none() && l.space == space).count();
        assert_eq!(self.table.purge(self.now, space, None, fx) as usize, orphans);
        self.locks.retain(|_, l| l.owner.is_some() || l.space != space);
        self.learn(fx);
    }

    /// Freezes the slot of one name; the next thaw is for all.
    fn freeze_one(&mut self) {
        let space = self.spaces[self.dice.below(2) as usize].0;
        let name = self.dice.pick(&NAMES);
        self.table.freeze_slots(&[Slot::of(0, space, name)].into_iter().collect());
    }

    /// Thaws, or while frozen takes a lock of an earlier epoch back.
    fn restart(&mut self, fx: &mut Vec<Effect>) {
        if !self.table.is_frozen() || self.dice.one_in(8) {
            self.table.thaw(self.now, fx);
            self.learn(fx);
            return;
        }
        let (space, modes, _) = self.spaces[0].clone();
        let owner = self.dice.pick(&self.owners.clone());
        let claim = Reclaim {
            space,
            name: self.dice.pick(&NAMES[..2]),
            held: Claim::Mode(Mode(self.dice.below(modes.count() as u64) as u8)),
            token: Token::new(1, 1 + self.dice.below(40)).expect("token"),
            lock: LockId(1),
            tag: self.dice.below(3) as u32,
            alone: self.dice.one_in(2),
            group: None,
            part: None,
            flags: Flags::NONE,
        };
        let answer = self.table.reclaim(self.now, owner, &claim, fx);
        self.learn(fx);
        if let Ok(grant) = answer {
            // An orphan that a higher token drives out has nobody to be told.
            let driven_out = |l: &Known| {
                let Some(Claim::Mode(held)) = l.held else { return false };
                let Claim::Mode(mode) = grant.claim else { return false };
                let conflict = !modes.compatible(mode, held) || !modes.compatible(held, mode);
                l.owner.is_none() && l.space == space && l.name == claim.name && conflict
            };
            self.locks.retain(|_, l| !driven_out(l));
            self.locks.insert(
                grant.lock,
                Known {
                    owner: Some(owner),
                    space,
                    name: claim.name.to_vec(),
                    held: Some(grant.claim),
                    unsure: self.locks.get(&grant.lock).is_some_and(|l| l.unsure),
                    persistent: self.locks.get(&grant.lock).is_some_and(|l| l.persistent),
                    alone: self.locks.get(&grant.lock).map_or(claim.alone, |l| l.alone),
                    no_edge: self.locks.get(&grant.lock).is_some_and(|l| l.no_edge),
                    token: grant.token,
                    wait: self.locks.get(&grant.lock).and_then(|l| l.wait.clone()),
                },
            );
        }
    }

    fn look(&mut self) {
        let nobody = |_: OwnerId| Holder::default();
        let edges = self.table.waits(self.now, 1_000, &nobody).edges;
        assert!(edges.iter().all(|e| e.waiter.wanted.is_some() && e.waiter.lock != e.blocker.lock));
        let (mut names, mut from) = (Vec::new(), Some(0));
        while let Some(place) = from {
            let (rows, next) = self.table.resources(self.spaces[0].0, b"", place, (2, 1_000));
            assert!(rows.len() <= 2 && next.is_none_or(|n| n > place));
            names.extend(rows.into_iter().map(|r| r.name.to_vec()));
            from = next;
        }
        names.sort_unstable();
        let mut known: Vec<Vec<u8>> =
            self.locks.values().filter(|l| l.space == self.spaces[0].0).map(|l| l.name.clone()).collect();
        known.sort_unstable();
        known.dedup();
        assert_eq!(names, known, "each resource is shown once");
        for owner in self.owners.clone() {
            let mut fx = Vec::new();
            self.table.repeat_blocking(owner, &mut fx);
            assert!(fx.iter().all(|f| matches!(f, Effect::Blocking { owner: o, .. } if *o == owner)));
        }
    }

    fn some_lock(&mut self) -> Option<LockId> {
        let at = self.dice.below(self.locks.len().max(1) as u64) as usize;
        self.locks.keys().nth(at).copied()
    }

    // ------------------------------------------------------------------ model

    fn learn(&mut self, fx: &[Effect]) {
        for effect in fx {
            match effect {
                Effect::Granted { origin, grant, .. } => {
                    let came = self.locks[&grant.lock].wait.as_ref().map(|w| w.came);
                    assert_eq!(came, Some(*origin), "{effect:?}");
                    self.learn_grant(grant, *origin, false);
                }
                Effect::Refused { lock, origin, demoted, .. } | Effect::Cancelled { lock, origin, demoted, .. } => {
                    // Of a lock released with FORCEUNLOCK the model knows nothing any more.
                    let Some(known) = self.locks.get_mut(lock) else { continue };
                    let wait = known.wait.take();
                    assert_eq!(wait.map(|w| w.came), Some(*origin), "{effect:?}");
                    // [DEAD-12] From here on it is known again what is held.
                    known.unsure = false;
                    known.held = demoted.or(known.held);
                    if known.held.is_none() {
                        self.locks.remove(lock);
                    }
                }
                Effect::Revoked { lock, .. } => assert!(self.locks.remove(lock).is_some(), "{effect:?}"),
                Effect::Blocking { lock, owner, .. } => {
                    // An orphan just adopted is still nobody's here.
                    let known = self.locks.get(lock).and_then(|l| l.owner);
                    assert!(known.is_none_or(|o| o == *owner), "{effect:?}");
                }
                Effect::Deadlock { report, owners } => {
                    self.deadlocks += 1;
                    assert_eq!(report.cycle.len(), owners.len());
                    let steps = |i: usize| owners[i].1 != owners[(i + 1) % owners.len()].0;
                    let nested = (0..owners.len()).any(steps);
                    self.nested += u64::from(nested);
                    assert!(nested || !self.was_preventable(report, owners), "{report:?}");
                    for i in 0..owners.len() {
                        let (blocker, next) = (owners[i].1, owners[(i + 1) % owners.len()].0);
                        assert!(self.outwards(next).any(|o| o == blocker), "a cycle that does not close");
                    }
                }
                Effect::Wounded { owner } => self.learn_wound(*owner),
                Effect::Changed { .. } => {}
            }
        }
    }

    fn learn_grant(&mut self, grant: &Grant, came: u64, adopted: bool) {
        self.granted += 1;
        let before = self.locks[&grant.lock].clone();
        let modes = self.spaces.iter().find(|s| s.0 == before.space).expect("space").1.clone();
        let down = match (before.held, grant.claim) {
            (Some(Claim::Mode(old)), Claim::Mode(new)) => modes.is_down(old, new),
            _ => false,
        };
        if let Some(wait) = &before.wait {
            assert!(grant.claim == wait.want || wait.alternative, "{grant:?} {before:?}");
        }
        if down && !before.unsure && !adopted {
            assert_eq!(grant.token, before.token, "a down-conversion keeps its token");
        } else if !down || adopted {
            assert!(grant.token > before.token && grant.token.epoch() == 2, "{grant:?} {before:?}");
        }
        if !down && !adopted && !before.unsure {
            self.pass(grant, came, before.held, &before, &modes);
        }
        let known = self.locks.get_mut(&grant.lock).expect("known");
        known.held = Some(grant.claim);
        known.token = grant.token;
        known.wait = None;
        known.unsure = false;
    }

    /// Counts a grant against those it passed, by the words of [FAIR-1] and [FAIR-4].
    fn pass(&mut self, grant: &Grant, came: u64, held: Option<Claim>, of: &Known, modes: &ModeTable) {
        let fair = self.spaces.iter().any(|s| s.0 == of.space && s.2);
        if !fair || matches!(grant.claim, Claim::Mode(m) if modes.null() == Some(m)) {
            return;
        }
        for (id, other) in &mut self.locks {
            let Some(wait) = &mut other.wait else { continue };
            if *id == grant.lock || other.space != of.space || other.name != of.name || wait.came >= came {
                continue;
            }
            let in_the_way =
                matches!((held, wait.want), (Some(Claim::Mode(h)), Claim::Mode(w)) if !modes.compatible(w, h));
            if in_the_way {
                continue;
            }
            wait.passed += 1;
            assert!(wait.passed <= BOUND, "{id:?} was passed {} times", wait.passed);
        }
    }

    fn prove(&mut self) {
        if let Err(broken) = self.table.check() {
            panic!("{broken}");
        }
        self.prove_ages();
        let (mut held, mut waiting) = (0, 0);
        let mut by_name: BTreeMap<(SpaceId, &[u8]), Vec<&Known>> = BTreeMap::new();
        for known in self.locks.values() {
            held += u64::from(known.held.is_some());
            waiting += u64::from(known.wait.is_some() && known.held.is_none());
            by_name.entry((known.space, &known.name)).or_default().push(known);
        }
        let counts = self.table.counts();
        assert_eq!((counts.granted + counts.converting, counts.waiting), (held, waiting));
        assert!(
            counts.converting == self.locks.values().filter(|l| l.wait.is_some() && l.held.is_some()).count() as u64
        );
        for ((space, _), locks) in by_name {
            let modes = &self.spaces.iter().find(|s| s.0 == space).expect("space").1;
            let mut taken = 0;
            for (i, a) in locks.iter().enumerate() {
                match a.held {
                    Some(Claim::Permits { take, of }) => {
                        taken += take;
                        assert!(taken <= of);
                    }
                    Some(Claim::Mode(m)) => {
                        for b in locks[i + 1..].iter().filter(|b| !b.unsure && !a.unsure) {
                            let Some(Claim::Mode(n)) = b.held else { continue };
                            assert!(modes.compatible(m, n) || modes.compatible(n, m), "{a:?} beside {b:?}");
                        }
                    }
                    None => {}
                }
            }
        }
        assert!(self.table.last_token() >= self.newest);
        self.newest = self.table.last_token();
    }
}

#[test]
fn a_million_random_commands_break_nothing() {
    let chosen: Option<u64> = std::env::var("LOCKSTEAD_SEED").ok().and_then(|s| s.parse().ok());
    let seeds = chosen.map_or(0..WORLDS, |seed| seed..seed + 1);
    let (mut granted, mut deadlocks, mut nested, mut waited) = (0, 0, 0, 0);
    let (mut aborted, mut wounded) = (0, 0);
    for seed in seeds {
        let run = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..COMMANDS {
                world.step();
            }
            (world.granted, world.deadlocks, world.nested, world.waited, world.aborted, world.wounded)
        });
        let Ok(counts) = run else { panic!("LOCKSTEAD_SEED={seed}") };
        granted += counts.0;
        deadlocks += counts.1;
        nested += counts.2;
        waited += counts.3;
        aborted += counts.4;
        wounded += counts.5;
    }
    // The commands reach what they are to reach.
    assert!(
        chosen.is_some() || (granted > 100_000 && deadlocks > 1_000 && nested > 1_000 && waited > 50_000),
        "{granted} {deadlocks} {nested} {waited}"
    );
    assert!(chosen.is_some() || (aborted > 5_000 && wounded > 500), "{aborted} {wounded}");
    println!("{granted} grants, {waited} waits, {deadlocks} deadlocks, {nested} of them nested");
    println!("{aborted} refused aborted, {wounded} wounded");
}
