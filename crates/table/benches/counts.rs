//! The instructions of single steps, for callgrind: `--cases` prints what there is, `CASE N` sets up and then runs it N
//! times. `cargo xtask bench` takes the difference of two runs, so what is not repeated does not count.

use core::hint::black_box;
use std::{collections::VecDeque, process::ExitCode, sync::Arc};

use lockstead_table::{Effect, Outcome, OwnerId, Space, Table};
use lockstead_types::{
    Flags, Limits, LockId, Mode, SpaceId, Time,
    request::{Claim, ConvertRequest, LockRequest, OwnerRef, ReleaseRequest, Wait},
    space::{DeadlockPolicy, QueuePolicy, VictimPolicy},
    tables::built_in,
};

const PR: Mode = Mode(3);
const EX: Mode = Mode(5);

type Case = fn(&mut Run, u64);

const CASES: &[(&str, Case)] = &[
    ("lock+release, one name", one_name),
    ("lock+release, 1,000 names in turn", many_names),
    ("lock+release shared, beside a holder", beside_a_holder),
    ("convert up and down, alone", conversions),
    ("hand-over among 16 that wait", hand_over),
    ("wait and cancel", wait_and_cancel),
    ("lock+release a range, among 1,000", |run, times| ranges(run, times, 1_000)),
    ("lock+release a range, among 100,000", |run, times| ranges(run, times, 100_000)),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [name, times] => {
            let case = CASES.iter().find(|(known, _)| known == name);
            let (Some((_, case)), Ok(times)) = (case, times.parse()) else {
                eprintln!("no such case, or no number: {name} {times}");
                return ExitCode::FAILURE;
            };
            case(&mut Run::new(), times);
        }
        _ => CASES.iter().for_each(|(name, _)| println!("{name}")),
    }
    ExitCode::SUCCESS
}

struct Run {
    table: Table,
    owner: OwnerId,
    effects: Vec<Effect>,
}

impl Run {
    fn new() -> Run {
        let mut table = Table::new(Limits::default(), 1, 7);
        let modes = Arc::new(built_in("vms").expect("built in"));
        let (policy, deadlock, victim) = (QueuePolicy::Vms, DeadlockPolicy::Detect, VictimPolicy::Requester);
        table.add_space(
            SpaceId(0),
            Space { modes, policy, deadlock, victim, value_bytes: 64, levels: 0, extents: false, persistent: false },
        );
        let owner = table.add_owner();
        let mut run = Run { table, owner, effects: Vec::with_capacity(64) };
        // The first lock makes room that later ones find.
        let lock = run.lock(owner, b"first", EX);
        run.release(owner, lock);
        run
    }

    fn lock(&mut self, by: OwnerId, name: &[u8], mode: Mode) -> LockId {
        let request = LockRequest {
            space: SpaceId(0),
            name,
            claim: Claim::Mode(mode),
            wait: Wait::Forever,
            flags: Flags::NONE,
            owner: OwnerRef::Session,
            tag: 0,
            priority: 0,
        };
        match self.table.lock(Time::ZERO, by, 0, black_box(&request), &mut self.effects) {
            Ok(Outcome::Granted(grant)) => grant.lock,
            Ok(Outcome::Queued(lock)) => lock,
            other => panic!("{other:?}"),
        }
    }

    fn release(&mut self, by: OwnerId, lock: LockId) {
        let request = ReleaseRequest { lock, flags: Flags::NONE, value: None };
        self.table.release(Time::ZERO, by, black_box(&request), &mut self.effects).expect("held");
    }

    fn convert(&mut self, lock: LockId, mode: Mode) {
        let request = ConvertRequest { lock, mode, wait: Wait::Forever, flags: Flags::NONE, value: None };
        let outcome = self.table.convert(Time::ZERO, self.owner, 0, black_box(&request), &mut self.effects);
        black_box(outcome.expect("alone"));
    }
}

fn one_name(run: &mut Run, times: u64) {
    for _ in 0..times {
        let lock = run.lock(run.owner, b"orders/page:5/row:17", EX);
        run.release(run.owner, lock);
    }
}

fn many_names(run: &mut Run, times: u64) {
    let names: Vec<String> = (0..1_000).map(|n| format!("orders/row:{n}")).collect();
    for name in names.iter().cycle().take(usize::try_from(times).expect("small")) {
        let lock = run.lock(run.owner, name.as_bytes(), EX);
        run.release(run.owner, lock);
    }
}

fn beside_a_holder(run: &mut Run, times: u64) {
    let holder = run.table.add_owner();
    run.lock(holder, b"orders", PR);
    for _ in 0..times {
        let lock = run.lock(run.owner, b"orders", PR);
        run.release(run.owner, lock);
    }
}

fn conversions(run: &mut Run, times: u64) {
    let lock = run.lock(run.owner, b"orders", PR);
    for _ in 0..times {
        run.convert(lock, EX);
        run.convert(lock, PR);
    }
}

fn hand_over(run: &mut Run, times: u64) {
    let mut queue = VecDeque::new();
    for _ in 0..16 {
        let owner = run.table.add_owner();
        queue.push_back((owner, run.lock(owner, b"hot", EX)));
    }
    for _ in 0..times {
        let Some((owner, lock)) = queue.pop_front() else { return };
        run.release(owner, lock);
        queue.push_back((owner, run.lock(owner, b"hot", EX)));
        run.effects.clear();
    }
}

fn wait_and_cancel(run: &mut Run, times: u64) {
    let holder = run.table.add_owner();
    run.lock(holder, b"hot", EX);
    for _ in 0..times {
        let lock = run.lock(run.owner, b"hot", EX);
        run.table.cancel(Time::ZERO, run.owner, lock, &mut run.effects).expect("it waits");
        run.effects.clear();
    }
}

/// A range between those that others hold, under one parent.
fn ranges(run: &mut Run, times: u64, held: u64) {
    let modes = Arc::new(built_in("vms").expect("built in"));
    let (policy, deadlock, victim) = (QueuePolicy::Vms, DeadlockPolicy::Detect, VictimPolicy::Requester);
    let space = Space { modes, policy, deadlock, victim, value_bytes: 0, levels: 0, extents: true, persistent: false };
    run.table.add_space(SpaceId(1), space);
    let holder = run.table.add_owner();
    let lock = |run: &mut Run, owner, lo: u64| {
        let name = format!("rows[#{lo},#{})", lo + 5);
        let (claim, wait) = (Claim::Mode(EX), Wait::Never);
        let (space, name, flags) = (SpaceId(1), name.as_bytes(), Flags::NONE);
        let req = LockRequest { space, name, claim, wait, flags, owner: OwnerRef::Session, tag: 0, priority: 0 };
        match run.table.lock(Time::ZERO, owner, 0, black_box(&req), &mut run.effects) {
            Ok(Outcome::Granted(grant)) => grant.lock,
            other => panic!("{other:?}"),
        }
    };
    for n in 0..held {
        lock(run, holder, n * 7_919 % held * 10);
    }
    for n in 0..times {
        let taken = lock(run, run.owner, n * 104_729 % held * 10 + 5);
        run.release(run.owner, taken);
    }
}
