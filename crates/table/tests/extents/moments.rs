//! Single moments: the published matrix of range modes over ranges, what is told and to whom, what a recovery makes of parts.

use lockstead_table::{Claimant, Effect, Ending, Outcome, OwnerId, Table};
use lockstead_types::{
    Flags, LockId, Mode, Refusal, SlotSet, Time, Token,
    message::Reclaim,
    request::{Claim, ConvertRequest, LockRequest, OwnerRef, ReleaseRequest, Wait},
    rows::LockReport,
    space::{DeadlockPolicy, QueuePolicy},
};

use crate::dice::{HERE, add_space, table};

const PR: Mode = Mode(3);
const EX: Mode = Mode(5);

fn request(name: &[u8], mode: Mode) -> LockRequest<'_> {
    let (claim, wait, owner) = (Claim::Mode(mode), Wait::Forever, OwnerRef::Session);
    LockRequest { space: HERE, name, claim, wait, flags: Flags::NONE, owner, tag: 0, priority: 0 }
}

fn ask(table: &mut Table, owner: OwnerId, name: &str, mode: Mode, fx: &mut Vec<Effect>) -> (bool, LockId) {
    match table.lock(Time::ZERO, owner, 1, &request(name.as_bytes(), mode), fx) {
        Ok(Outcome::Granted(grant)) => (true, grant.lock),
        Ok(Outcome::Queued(lock)) => (false, lock),
        other => panic!("{name}: {other:?}"),
    }
}

fn detecting() -> (Table, [OwnerId; 3]) {
    let mut table = table("vms", QueuePolicy::Vms, DeadlockPolicy::Detect, 7);
    let owners = [table.add_owner(), table.add_owner(), table.add_owner()];
    (table, owners)
}

/// The modes of the published table of key-range locks, in its order.
const PUBLISHED: [&str; 7] = ["S", "U", "X", "RS-S", "RS-U", "RI-N", "RX-X"];

#[test]
fn range_modes_are_compatible_as_published() {
    // Rows: what is asked for. Columns: what is held.
    let published: [[bool; 7]; 7] = [
        [true, true, false, true, true, true, false],
        [true, false, false, true, false, true, false],
        [false, false, false, false, false, true, false],
        [true, true, false, true, true, false, false],
        [true, false, false, true, false, false, false],
        [true, true, true, false, false, true, false],
        [false, false, false, false, false, false, false],
    ];
    for (r, requested) in PUBLISHED.iter().enumerate() {
        for (h, held) in PUBLISHED.iter().enumerate() {
            let mut table = table("sqlserver", QueuePolicy::Vms, DeadlockPolicy::Detect, 7);
            let modes = table.space(HERE).expect("added").modes.clone();
            let (requested, held) = (modes.parse(requested).expect("a mode"), modes.parse(held).expect("a mode"));
            let (a, b) = (table.add_owner(), table.add_owner());
            let fx = &mut Vec::new();
            assert!(ask(&mut table, a, "t(10,20]", held, fx).0);
            assert_eq!(ask(&mut table, b, "t[15]", requested, fx).0, published[r][h], "{requested:?} beside {held:?}");
            assert!(ask(&mut table, b, "t[21,30)", requested, fx).0, "what lies apart is in nobody's way");
            assert_eq!(table.check(), Ok(()));
        }
    }
}

#[test]
fn a_release_serves_those_that_overlap_it_and_tells_no_other() {
    // [RANGE-5] [RANGE-7]
    let (mut table, [a, b, c]) = detecting();
    let fx = &mut Vec::new();
    let left = ask(&mut table, a, "t[00,10)", EX, fx).1;
    let right = ask(&mut table, a, "t[10,20)", EX, fx).1;
    let first = ask(&mut table, b, "t[05]", PR, fx).1;
    let both = ask(&mut table, c, "t[08,12)", PR, fx).1;
    let last = ask(&mut table, b, "t[15]", EX, fx).1;
    let told: Vec<LockId> =
        fx.iter().filter_map(|f| if let Effect::Blocking { lock, .. } = f { Some(*lock) } else { None }).collect();
    assert_eq!(told, [left, right, right], "the one who waits for both tells nobody twice of the same mode");
    fx.clear();
    let release = |table: &mut Table, lock, fx: &mut Vec<Effect>| {
        let req = ReleaseRequest { lock, flags: Flags::NONE, value: None };
        assert_eq!(table.release(Time::ZERO, a, &req, fx), Ok(()));
        let granted = |f: &Effect| if let Effect::Granted { grant, .. } = f { Some(grant.lock) } else { None };
        fx.drain(..).filter_map(|f| granted(&f)).collect::<Vec<_>>()
    };
    assert_eq!(release(&mut table, left, fx), [first]);
    assert_eq!(release(&mut table, right, fx), [both, last]);
}

#[test]
fn a_lost_holder_of_a_part_leaves_the_value_block_as_it_is() {
    // [RANGE-6]
    let (mut table, [a, b, c]) = detecting();
    let fx = &mut Vec::new();
    let (_, null) = ask(&mut table, c, "t", Mode(0), fx);
    assert!(ask(&mut table, b, "t[5]", EX, fx).0);
    table.end_owner(Time::ZERO, b, Ending::Crash, fx);
    assert!(!table.read_value(c, null).expect("held").invalid);
    assert!(ask(&mut table, a, "t", EX, fx).0);
    table.end_owner(Time::ZERO, a, Ending::Crash, fx);
    assert!(table.read_value(c, null).expect("held").invalid);
}

fn report(name: &[u8], mode: Mode, sequence: u64) -> LockReport<'_> {
    LockReport {
        session: None,
        orphan: false,
        space: HERE,
        name,
        held: Some(Claim::Mode(mode)),
        token: Token::new(1, sequence).expect("small"),
        before: Token::NONE,
        wanted: None,
        tag: 0,
        alone: false,
        flags: Flags::NONE,
        value: None,
        group: None,
    }
}

#[test]
fn parts_are_taken_back_as_they_were_and_only_those_that_overlap_are_rivals() {
    // [RANGE-8]
    let (mut table, [a, b, c]) = detecting();
    let fx = &mut Vec::new();
    table.freeze();
    let restore = |table: &mut Table, owner, report: LockReport<'_>, fx: &mut Vec<Effect>| {
        table.restore(Time::ZERO, Claimant::Owner(owner), &report, 0, fx)
    };
    let first = restore(&mut table, a, report(b"t[10,20)", EX, 5), fx).expect("nobody else");
    assert_eq!(restore(&mut table, a, report(b"t[10,20)", EX, 5), fx), Ok(first), "said twice");
    assert!(restore(&mut table, b, report(b"t[20,30)", EX, 4), fx).is_ok(), "beside it");
    assert!(restore(&mut table, a, report(b"t[15,18)", EX, 3), fx).is_ok(), "within one's own");
    assert_eq!(
        restore(&mut table, b, report(b"t[19,25)", EX, 2), fx),
        Err(Refusal::Lost),
        "older than what it overlaps"
    );
    assert_eq!(restore(&mut table, b, report(b"t[19,10)", EX, 9), fx), Err(Refusal::Invalid));
    let claim = Reclaim {
        space: HERE,
        name: b"t[28,40)",
        held: Claim::Mode(EX),
        token: Token::new(1, 9).expect("small"),
        lock: LockId(1),
        tag: 0,
        alone: false,
        group: None,
        part: None,
        flags: Flags::NONE,
    };
    assert!(table.reclaim(Time::ZERO, c, &claim, fx).is_ok());
    let revoked: Vec<OwnerId> =
        fx.iter().filter_map(|f| if let Effect::Revoked { owner, .. } = f { Some(*owner) } else { None }).collect();
    assert_eq!(revoked, [b], "the newer claim drives out what it overlaps");
    table.thaw(Time::ZERO, fx);
    assert_eq!(table.check(), Ok(()));
    let slots = SlotSet::FULL;
    let mut names: Vec<String> = table
        .export_slots(Time::ZERO, &slots)
        .flat_map(|r| r.locks.iter().map(|l| String::from_utf8_lossy(&l.name).into_owned()).collect::<Vec<_>>())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["t[10,20)", "t[15,18)", "t[28,40)"]);
}

#[test]
fn a_name_means_a_part_only_where_its_lockspace_says_so() {
    // [RANGE-1]
    let (mut table, [a, b, _]) = detecting();
    let fx = &mut Vec::new();
    assert!(ask(&mut table, a, "t[1,5)", EX, fx).0);
    for wrong in ["t[1,5", "t[5,1)", "[1,5)", "t[1,1]", "t{b=1&a=1}"] {
        let answer = table.lock(Time::ZERO, b, 2, &request(wrong.as_bytes(), EX), fx);
        assert_eq!(answer, Err(Refusal::Invalid), "{wrong}");
    }
    let found = table.find(a, HERE, b"t[1,5)", 0).expect("held");
    assert!(table.is_lock_on(found.lock, HERE, b"t[1,5)") && !table.is_lock_on(found.lock, HERE, b"t"));
    assert_eq!(table.find(a, HERE, b"t", 0), None);
    let token = found.token;
    assert_eq!(table.force_release(Time::ZERO, HERE, b"t[1,5)", token, fx), Ok(found.lock));
}

#[test]
fn waits_over_parts_close_cycles_and_others_do_not() {
    let (mut table, [a, b, _]) = detecting();
    let fx = &mut Vec::new();
    let mine = ask(&mut table, a, "t[00,10)", PR, fx).1;
    assert!(ask(&mut table, b, "t[20,30)", EX, fx).0);
    // No cycle: what a waits for ends where b's other lock begins.
    assert!(!ask(&mut table, a, "t[25]", PR, fx).0);
    assert!(ask(&mut table, b, "t[10,15)", EX, fx).0);
    assert!(!fx.iter().any(|f| matches!(f, Effect::Deadlock { .. })));
    let answer = table.lock(Time::ZERO, b, 2, &request(b"t[09]", EX), fx);
    assert!(fx.iter().any(|f| matches!(f, Effect::Deadlock { .. })), "{answer:?}");
    let up = ConvertRequest { lock: mine, mode: EX, wait: Wait::Never, flags: Flags::NONE, value: None };
    let _ = table.convert(Time::ZERO, a, 3, &up, fx);
    assert_eq!(table.check(), Ok(()));
}

#[test]
fn all_that_a_million_steps_leave_is_freed() {
    let mut table = Table::new(Default::default(), 1, 7);
    add_space(&mut table, "vms", QueuePolicy::Vms, DeadlockPolicy::Detect);
    let owner = table.add_owner();
    let fx = &mut Vec::new();
    for round in 0..3 {
        let locks: Vec<LockId> = (0..20_000)
            .map(|n| ask(&mut table, owner, &format!("t[#{},#{})", n * 2, n * 2 + 2 + round), EX, fx).1)
            .collect();
        for lock in locks {
            let req = ReleaseRequest { lock, flags: Flags::NONE, value: None };
            assert_eq!(table.release(Time::ZERO, owner, &req, fx), Ok(()));
        }
    }
    assert_eq!(table.counts().resources, 0);
    assert_eq!(table.check(), Ok(()));
}
