//! What a new range costs among those that are held under one parent. `cargo bench -p lockstead-table --bench ranges`.

use core::hint::black_box;
use std::{sync::Arc, time::Instant};

use lockstead_table::{Effect, Outcome, OwnerId, Space, Table};
use lockstead_types::{
    Extent, Flags, Limits, LockId, Mode, SpaceId, Time,
    extent::{Condition, Interval},
    request::{Claim, LockRequest, OwnerRef, ReleaseRequest, Wait},
    space::{DeadlockPolicy, QueuePolicy, VictimPolicy},
    tables::built_in,
};

const HERE: SpaceId = SpaceId(0);
const PR: Mode = Mode(3);
const EX: Mode = Mode(5);
const TIMES: u64 = 100_000;
/// Each has its own key, and as many between it and the next.
const STEP: u64 = 10;

struct Run {
    table: Table,
    effects: Vec<Effect>,
    held: u64,
}

impl Run {
    fn new(held: u64, name: &dyn Fn(u64) -> Vec<u8>) -> Run {
        let mut table = Table::new(Limits::default(), 1, 7);
        let modes = Arc::new(built_in("vms").expect("built in"));
        let (policy, deadlock, victim) = (QueuePolicy::Vms, DeadlockPolicy::Detect, VictimPolicy::Requester);
        let space =
            Space { modes, policy, deadlock, victim, value_bytes: 0, levels: 0, extents: true, persistent: false };
        table.add_space(HERE, space);
        let mut run = Run { table, effects: Vec::new(), held };
        let owners: Vec<OwnerId> = (0..100).map(|_| run.table.add_owner()).collect();
        // Not in the order of their keys.
        for n in 0..held {
            let at = n * 7_919 % held;
            run.lock(owners[(n % 100) as usize], &name(at), PR).expect("free");
        }
        run
    }

    fn lock(&mut self, owner: OwnerId, name: &[u8], mode: Mode) -> Option<LockId> {
        let (claim, wait, kind) = (Claim::Mode(mode), Wait::Never, OwnerRef::Session);
        let req = LockRequest { space: HERE, name, claim, wait, flags: Flags::NONE, owner: kind, tag: 0, priority: 0 };
        match self.table.lock(Time::ZERO, owner, 0, black_box(&req), &mut self.effects) {
            Ok(Outcome::Granted(grant)) => Some(grant.lock),
            _ => None,
        }
    }

    /// Nanoseconds of a lock and, where it is granted, its release.
    fn time(&mut self, mode: Mode, name: &dyn Fn(u64) -> Vec<u8>) -> (u64, bool) {
        let owner = self.table.add_owner();
        let names: Vec<Vec<u8>> = (0..TIMES).map(|n| name(n * 104_729 % self.held)).collect();
        let mut granted = true;
        let start = Instant::now();
        for name in &names {
            match self.lock(owner, name, mode) {
                Some(lock) => {
                    let release = ReleaseRequest { lock, flags: Flags::NONE, value: None };
                    self.table.release(Time::ZERO, owner, &release, &mut self.effects).expect("held");
                }
                None => granted = false,
            }
        }
        ((start.elapsed().as_nanos() / u128::from(TIMES)) as u64, granted)
    }
}

fn range(lo: u64, hi: u64) -> Vec<u8> {
    Extent::range(Interval::numbers(lo, Some(hi)).expect("not empty")).name_in(b"rows")
}

fn row(department: u64, number: u64) -> Vec<u8> {
    let point = |attribute: &[u8], value: u64| Condition {
        attribute: attribute.into(),
        values: Interval::point(&value.to_be_bytes()),
    };
    Extent::of(vec![point(b"department", department), point(b"number", number)]).expect("two").name_in(b"staff")
}

fn main() {
    println!("a lock and its release, or its refusal, in nanoseconds; {TIMES} of each, under one parent");
    println!();
    println!("   held  between them  over one, shared  over one, refused  over ten, shared  row of its own");
    for held in [1_000, 10_000, 100_000, 1_000_000] {
        let mut run = Run::new(held, &|n| range(n * STEP, n * STEP + STEP / 2));
        let between = run.time(EX, &|n| range(n * STEP + STEP / 2, n * STEP + STEP));
        let shared = run.time(PR, &|n| range(n * STEP + 1, n * STEP + 3));
        let refused = run.time(EX, &|n| range(n * STEP + 1, n * STEP + 3));
        let ten = run.time(PR, &|n| range(n * STEP, (n + 10) * STEP));
        drop(run);
        let mut run = Run::new(held, &|n| row(n, 1));
        let own = run.time(EX, &|n| row(n, 2));
        let all = [between, shared, ten, own];
        assert!(all.iter().all(|(_, granted)| *granted) && !refused.1, "not what was to be measured");
        println!("{held:7} {:13} {:17} {:18} {:17} {:15}", between.0, shared.0, refused.0, ten.0, own.0);
    }
}
