//! Everything at once: all flags, all policies, freezes, ends of owners, deadlines, and moves of all there is to another table. After each
//! command the table proves its own state, its index against its queues; what moved is what was there.
//!
//! `LOCKSTEAD_SEED=n` runs the one world of that seed again.

use std::collections::BTreeSet;

use lockstead_table::{Claimant, Effect, Ending, ExportedLock, Outcome, OwnerId, Table};
use lockstead_types::{
    Age, Flags, LockId, Mode, RequestId, SlotSet, Span, Time, Token,
    peer::WaitReport,
    request::{Claim, ConvertRequest, LockRequest, OwnerRef, ReleaseRequest, Wait},
    rows::LockReport,
    space::{DeadlockPolicy, QueuePolicy},
};

use crate::dice::{Dice, HERE, add_space, table};

const WORLDS: u64 = 300;
const COMMANDS: u64 = 1_000;

struct World {
    table: Table,
    dice: Dice,
    name: &'static str,
    policy: QueuePolicy,
    deadlock: DeadlockPolicy,
    owners: Vec<OwnerId>,
    locks: BTreeSet<(OwnerId, LockId)>,
    now: Time,
    came: u64,
    deadlocks: u64,
    moved: u64,
    granted: u64,
}

impl World {
    fn new(seed: u64) -> World {
        let mut dice = Dice(seed);
        let name = dice.pick(&["vms", "vms", "sqlserver", "granular"]);
        let fair = QueuePolicy::Fair { overtakes: 3, ageing: Span::from_millis(5) };
        let policy = if dice.one_in(2) { fair } else { QueuePolicy::Vms };
        let all = [DeadlockPolicy::Detect, DeadlockPolicy::Detect, DeadlockPolicy::WaitDie, DeadlockPolicy::WoundWait];
        let deadlock = dice.pick(&all);
        let mut table = table(name, policy, deadlock, seed);
        let owners: Vec<OwnerId> = (0..5).map(|_| table.add_owner()).collect();
        let (locks, now) = (BTreeSet::new(), Time::from_nanos(1_000_000_000));
        let (came, deadlocks, moved, granted) = (0, 0, 0, 0);
        let mut world =
            World { table, dice, name, policy, deadlock, owners, locks, now, came, deadlocks, moved, granted };
        world.set_ages();
        world
    }

    fn set_ages(&mut self) {
        if self.deadlock.prevents() {
            for (n, owner) in self.owners.clone().into_iter().enumerate() {
                let age = Age { scn: 1 + n as u64, tie: 0 };
                self.table.set_owner_age(self.now, owner, Some(age), &mut Vec::new());
            }
        }
    }

    fn flags(&mut self, all: &[Flags]) -> Flags {
        all.iter().filter(|_| self.dice.one_in(10)).fold(Flags::NONE, |flags, f| flags.with(*f))
    }

    fn mode(&mut self) -> Mode {
        let count = self.table.space(HERE).expect("added").modes.count();
        Mode(self.dice.below(count as u64) as u8)
    }

    fn wait(&mut self) -> Wait {
        if self.dice.one_in(3) { Wait::For(Span::from_millis(self.dice.below(20))) } else { Wait::Forever }
    }

    fn step(&mut self) {
        self.now = self.now.after(Span::from_nanos(self.dice.below(2_000_000)));
        let mut fx = Vec::new();
        match self.dice.below(100) {
            0..45 => self.lock(&mut fx),
            45..65 => self.convert(&mut fx),
            65..85 => self.release(&mut fx),
            85..90 => self.table.expire(self.now, &mut fx),
            90..93 => self.end_owner(&mut fx),
            93..95 => self.table.freeze(),
            95..98 => self.table.thaw(self.now, &mut fx),
            _ => self.move_all(&mut fx),
        }
        self.deadlocks += fx.iter().filter(|f| matches!(f, Effect::Deadlock { .. })).count() as u64;
        self.granted += fx.iter().filter(|f| matches!(f, Effect::Granted { .. })).count() as u64;
        self.learn_what_ended(&fx);
        if let Err(broken) = self.table.check() {
            panic!("{broken}");
        }
    }

    fn learn_what_ended(&mut self, fx: &[Effect]) {
        for effect in fx {
            // A conversion that ended is still held; of what is gone it makes no odds to ask again.
            if let Effect::Revoked { owner, lock, .. } = effect {
                self.locks.remove(&(*owner, *lock));
            }
        }
    }

    fn lock(&mut self, fx: &mut Vec<Effect>) {
        let (extent, _) = self.dice.part(true);
        let name = extent.name_in(self.dice.pick(&[&b"t"[..], b"u"]));
        let flags = self.flags(&[
            Flags::NOQUEUE,
            Flags::NODLCKWT,
            Flags::NODLCKBLK,
            Flags::EXPEDITE,
            Flags::NOQUEUEBAST,
            Flags::NOORDER,
            Flags::ALTPR,
            Flags::ALTCW,
            Flags::NOBAST,
        ]);
        let whole = extent.is_whole();
        let flags =
            if whole { flags.with(self.flags(&[Flags::PERSISTENT, Flags::ORPHAN, Flags::VALBLK])) } else { flags };
        let owner = self.dice.pick(&self.owners.clone());
        let kind = if self.dice.one_in(3) { OwnerRef::Alone } else { OwnerRef::Session };
        let req = LockRequest {
            space: HERE,
            name: &name,
            claim: Claim::Mode(self.mode()),
            wait: self.wait(),
            flags,
            owner: kind,
            tag: self.dice.below(2) as u32,
            priority: self.dice.below(5) as i8 - 2,
        };
        self.came += 1;
        match self.table.lock(self.now, owner, self.came, &req, fx) {
            Ok(Outcome::Granted(grant)) => self.locks.insert((owner, grant.lock)),
            Ok(Outcome::Queued(id)) => self.locks.insert((owner, id)),
            _ => false,
        };
    }

    fn convert(&mut self, fx: &mut Vec<Effect>) {
        let Some((owner, lock)) = self.some_lock() else { return };
        let flags = self.flags(&[
            Flags::NOQUEUE,
            Flags::NODLCKWT,
            Flags::QUECVT,
            Flags::CONVDEADLK,
            Flags::CONVDEADLK,
            Flags::NOQUEUEBAST,
            Flags::NOORDER,
            Flags::ALTPR,
        ]);
        let req = ConvertRequest { lock, mode: self.mode(), wait: self.wait(), flags, value: None };
        self.came += 1;
        let _ = self.table.convert(self.now, owner, self.came, &req, fx);
    }

    fn release(&mut self, fx: &mut Vec<Effect>) {
        let Some((owner, lock)) = self.some_lock() else { return };
        let _ =
            self.table.release(self.now, owner, &ReleaseRequest { lock, flags: Flags::FORCEUNLOCK, value: None }, fx);
        self.locks.remove(&(owner, lock));
    }

    fn end_owner(&mut self, fx: &mut Vec<Effect>) {
        let at = self.dice.below(self.owners.len() as u64) as usize;
        let owner = self.owners.remove(at);
        self.table.end_owner(self.now, owner, Ending::Crash, fx);
        self.locks.retain(|(of, _)| *of != owner);
        self.owners.push(self.table.add_owner());
        self.set_ages();
    }

    fn some_lock(&mut self) -> Option<(OwnerId, LockId)> {
        let at = self.dice.below(self.locks.len().max(1) as u64) as usize;
        self.locks.iter().nth(at).copied()
    }

    /// All goes to another table, in any order, and what is exported there is what was exported here.
    fn move_all(&mut self, fx: &mut Vec<Effect>) {
        let mut next = Table::new(self.table.limits().clone(), 2, self.dice.next());
        add_space(&mut next, self.name, self.policy, self.deadlock);
        next.raise_sequence(self.table.sequence());
        let owners: Vec<OwnerId> = self.owners.iter().map(|_| next.add_owner()).collect();
        next.freeze();
        let slots = SlotSet::FULL;
        let mut before = Vec::new();
        let mut locks = BTreeSet::new();
        for resource in self.table.export_slots(self.now, &slots) {
            let mut rows: Vec<&ExportedLock<'_>> = resource.locks.iter().collect();
            self.dice.shuffle(&mut rows);
            for lock in rows {
                before.push(said(lock));
                let whose = match lock.whose {
                    Claimant::Owner(owner) => {
                        let at = self.owners.iter().position(|o| *o == owner).expect("one of them");
                        Claimant::Owner(owners[at])
                    }
                    orphan @ Claimant::Orphan(_) => orphan,
                };
                let origin = lock.wanted.as_ref().map_or(0, |w| w.origin);
                let report = report(lock);
                let id = next
                    .restore(self.now, whose, &report, origin, fx)
                    .unwrap_or_else(|why| panic!("{why:?}: {lock:?}"));
                assert_eq!(next.restore(self.now, whose, &report, origin, fx), Ok(id), "said twice");
                if let Claimant::Owner(owner) = whose {
                    locks.insert((owner, id));
                }
                assert_eq!(next.check(), Ok(()));
            }
        }
        let mut now_there: Vec<String> =
            next.export_slots(self.now, &slots).flat_map(|r| r.locks.iter().map(said).collect::<Vec<_>>()).collect();
        before.sort_unstable();
        now_there.sort_unstable();
        assert_eq!(now_there, before, "something is not as it was");
        self.moved += before.len() as u64;
        (self.table, self.owners, self.locks) = (next, owners, locks);
        self.set_ages();
        self.table.thaw(self.now, fx);
    }
}

/// What there is to say of a lock, whoever its table numbers it.
fn said(lock: &ExportedLock<'_>) -> String {
    let wanted = lock.wanted.as_ref().map(|w| (w.claim, w.flags, w.ticket, w.origin));
    let name = String::from_utf8_lossy(&lock.name);
    format!("{name} {:?} {:?} {wanted:?} {} {} {:?}", lock.held, lock.token, lock.tag, lock.alone, lock.flags)
}

fn report<'a>(lock: &'a ExportedLock<'_>) -> LockReport<'a> {
    let wanted = lock.wanted.as_ref().map(|w| WaitReport {
        id: RequestId(w.origin),
        claim: w.claim,
        flags: w.flags,
        left: w.left,
        waited: w.waited,
        demoted: w.demoted,
        ticket: w.ticket,
        priority: w.priority,
        value: w.value.map(Into::into),
    });
    LockReport {
        session: None,
        orphan: matches!(lock.whose, Claimant::Orphan(_)),
        space: HERE,
        name: &lock.name,
        held: lock.held,
        token: lock.token,
        before: Token::NONE,
        wanted,
        tag: lock.tag,
        alone: lock.alone,
        flags: lock.flags,
        value: None,
        group: None,
    }
}

#[test]
fn nothing_breaks_and_moves_change_nothing() {
    let chosen: Option<u64> = std::env::var("LOCKSTEAD_SEED").ok().and_then(|s| s.parse().ok());
    let seeds = chosen.map_or(0..WORLDS, |seed| seed..seed + 1);
    let (mut granted, mut deadlocks, mut moved) = (0, 0, 0);
    for seed in seeds {
        let run = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..COMMANDS {
                world.step();
                while world.locks.len() > 30 {
                    let mut fx = Vec::new();
                    world.release(&mut fx);
                    world.learn_what_ended(&fx);
                }
            }
            (world.granted, world.deadlocks, world.moved)
        });
        let Ok(counts) = run else { panic!("LOCKSTEAD_SEED={seed}") };
        granted += counts.0;
        deadlocks += counts.1;
        moved += counts.2;
    }
    println!("{granted} grants to those who waited, {deadlocks} deadlocks, {moved} locks moved");
    assert!(
        chosen.is_some() || (granted > 10_000 && deadlocks > 1_000 && moved > 20_000),
        "{granted} {deadlocks} {moved}"
    );
}
