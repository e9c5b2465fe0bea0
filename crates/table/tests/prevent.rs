//! Wait-die and wound-wait, rule by rule: who waits, who is aborted, who is wounded.

use std::sync::Arc;

use lockstead_table::{Effect, Ending, Outcome, OwnerId, Space, Table};
use lockstead_types::{
    Age, Flags, Limits, LockId, Mode, Refusal, SpaceId, Time,
    request::{Claim, ConvertRequest, LockRequest, OwnerRef, ReleaseRequest, Wait},
    space::{DeadlockPolicy, QueuePolicy, VictimPolicy},
    tables::built_in,
};

const NOW: Time = Time::from_nanos(5_000_000_000);
const DIE: SpaceId = SpaceId(1);
const WOUND: SpaceId = SpaceId(2);
const DETECT: SpaceId = SpaceId(3);
const NL: Mode = Mode(0);
const CR: Mode = Mode(1);
const PR: Mode = Mode(3);
const EX: Mode = Mode(5);

struct Desk {
    table: Table,
    fx: Vec<Effect>,
}

impl Desk {
    /// A table with a lockspace of each policy, and owners whose transactions began in this order.
    fn new<const N: usize>() -> (Desk, [OwnerId; N]) {
        let mut table = Table::new(Limits::default(), 7, 1);
        let policies =
            [(DIE, DeadlockPolicy::WaitDie), (WOUND, DeadlockPolicy::WoundWait), (DETECT, DeadlockPolicy::Detect)];
        for (id, deadlock) in policies {
            let space = Space {
                modes: Arc::new(built_in("vms").expect("built in")),
                policy: QueuePolicy::Vms,
                deadlock,
                victim: VictimPolicy::Requester,
                value_bytes: 0,
                levels: 0,
                extents: false,
                persistent: false,
            };
            table.add_space(id, space);
        }
        let mut desk = Desk { table, fx: Vec::new() };
        let mut scn = 0;
        let owners = [(); N].map(|()| {
            let owner = desk.table.add_owner();
            scn += 1;
            desk.begin(owner, scn);
            owner
        });
        (desk, owners)
    }

    fn begin(&mut self, owner: OwnerId, scn: u64) {
        self.set_age(owner, Some(Age { scn, tie: 0 }));
    }

    fn set_age(&mut self, owner: OwnerId, age: Option<Age>) {
        self.table.set_owner_age(NOW, owner, age, &mut self.fx);
        self.table.check().expect("sound");
    }

    fn ask(&mut self, owner: OwnerId, space: SpaceId, name: &str, claim: Claim, flags: Flags) -> Answer {
        let owned = OwnerRef::Session;
        self.ask_as(owner, LockRequest { owner: owned, flags, ..request(space, name, claim) })
    }

    fn ask_as(&mut self, owner: OwnerId, req: LockRequest<'_>) -> Answer {
        let answer = self.table.lock(NOW, owner, 1, &req, &mut self.fx);
        self.table.check().expect("sound");
        answer
    }

    fn hold(&mut self, owner: OwnerId, space: SpaceId, name: &str, mode: Mode) -> LockId {
        match self.ask(owner, space, name, Claim::Mode(mode), Flags::NONE) {
            Ok(Outcome::Granted(grant)) => grant.lock,
            other => panic!("{other:?}"),
        }
    }

    fn lock(&mut self, owner: OwnerId, space: SpaceId, name: &str, mode: Mode) -> Answer {
        self.ask(owner, space, name, Claim::Mode(mode), Flags::NONE)
    }

    fn waits(&mut self, owner: OwnerId, space: SpaceId, name: &str, mode: Mode) -> LockId {
        match self.lock(owner, space, name, mode) {
            Ok(Outcome::Queued(lock)) => lock,
            other => panic!("{other:?}"),
        }
    }

    fn convert(&mut self, owner: OwnerId, lock: LockId, mode: Mode, flags: Flags) -> Answer {
        let req = ConvertRequest { lock, mode, wait: Wait::Forever, flags, value: None };
        let answer = self.table.convert(NOW, owner, 2, &req, &mut self.fx);
        self.table.check().expect("sound");
        answer
    }

    fn release(&mut self, owner: OwnerId, lock: LockId) {
        let req = ReleaseRequest { lock, flags: Flags::NONE, value: None };
        self.table.release(NOW, owner, &req, &mut self.fx).expect("held");
        self.table.check().expect("sound");
    }

    /// Who was wounded, and whose waits ended how, since the last look.
    fn told(&mut self) -> (Vec<OwnerId>, Vec<(OwnerId, Refusal)>) {
        let fx = core::mem::take(&mut self.fx);
        let wounded = fx.iter().filter_map(|f| match f {
            Effect::Wounded { owner } => Some(*owner),
            _ => None,
        });
        let refused = fx.iter().filter_map(|f| match f {
            Effect::Refused { owner, why, .. } => Some((*owner, *why)),
            _ => None,
        });
        (wounded.collect(), refused.collect())
    }
}

type Answer = Result<Outcome, Refusal>;

fn request<'a>(space: SpaceId, name: &'a str, claim: Claim) -> LockRequest<'a> {
    LockRequest {
        space,
        name: name.as_bytes(),
        claim,
        wait: Wait::Forever,
        flags: Flags::NONE,
        owner: OwnerRef::Session,
        tag: 0,
        priority: 0,
    }
}

#[test]
fn under_wait_die_only_the_older_one_waits() {
    let (mut desk, [old, mid, young]) = Desk::new();
    let held = desk.hold(mid, DIE, "a", EX);
    assert_eq!(desk.lock(young, DIE, "a", PR), Err(Refusal::Aborted));
    assert_eq!(desk.fx, [], "no holder is told of one that does not wait");
    desk.waits(old, DIE, "a", PR);
    // Of one age with the one that holds.
    let twin = desk.table.add_owner();
    desk.begin(twin, 2);
    assert_eq!(desk.lock(twin, DIE, "a", PR), Err(Refusal::Aborted));
    // Whoever was refused may ask again, and what is free it gets.
    desk.hold(young, DIE, "b", EX);
    desk.release(mid, held);
    assert_eq!(desk.told(), (vec![], vec![]));
}

#[test]
fn who_only_stands_in_line_counts_too() {
    let (mut desk, [old, mid, young, youngest]) = Desk::new();
    desk.hold(youngest, DIE, "a", PR);
    desk.waits(old, DIE, "a", EX);
    // It would be compatible with what is held, and wait behind the old one alone.
    assert_eq!(desk.lock(mid, DIE, "a", PR), Err(Refusal::Aborted));
    desk.hold(old, WOUND, "a", PR);
    desk.waits(young, WOUND, "a", EX);
    desk.fx.clear();
    desk.lock(mid, WOUND, "a", EX).expect("it waits");
    assert_eq!(desk.told(), (vec![young], vec![(young, Refusal::Aborted)]));
}

#[test]
fn conversions_permits_and_flags_are_judged_by_their_edges() {
    let (mut desk, [old, young]) = Desk::new();
    let mine = desk.hold(old, DIE, "a", PR);
    let yours = desk.hold(young, DIE, "a", PR);
    assert_eq!(desk.convert(young, yours, EX, Flags::NONE), Err(Refusal::Aborted));
    assert!(matches!(desk.convert(old, mine, EX, Flags::NONE), Ok(Outcome::Queued(_))));
    // Of two conversions that would wait for each other the younger one gives way, though it came first.
    let (mut desk, [old, young]) = Desk::new();
    let mine = desk.hold(old, WOUND, "a", PR);
    let yours = desk.hold(young, WOUND, "a", PR);
    assert!(matches!(desk.convert(young, yours, EX, Flags::NONE), Ok(Outcome::Queued(_))));
    assert!(matches!(desk.convert(old, mine, EX, Flags::NONE), Ok(Outcome::Queued(_))));
    assert_eq!(desk.told(), (vec![young], vec![(young, Refusal::Aborted)]));
    let permits = |take| Claim::Permits { take, of: 4 };
    let (mut desk, [old, young]) = Desk::new();
    desk.ask(old, DIE, "p", permits(3), Flags::NONE).expect("free");
    assert_eq!(desk.ask(young, DIE, "p", permits(2), Flags::NONE), Err(Refusal::Aborted));
    desk.ask(young, DIE, "p", permits(1), Flags::NONE).expect("free");
    // NODLCKBLK and NODLCKWT: no edge, and nothing to judge.
    desk.ask(old, DIE, "q", Claim::Mode(EX), Flags::NODLCKBLK).expect("free");
    desk.waits(young, DIE, "q", EX);
    desk.hold(old, DIE, "r", EX);
    let answer = desk.ask(young, DIE, "r", Claim::Mode(EX), Flags::NODLCKWT);
    assert!(matches!(answer, Ok(Outcome::Queued(_))));
    // An alternative mode that is free is granted, and nothing waits.
    desk.hold(old, DIE, "s", PR);
    assert!(matches!(desk.ask(young, DIE, "s", Claim::Mode(EX), Flags::ALTPR), Ok(Outcome::Granted(_))));
}

#[test]
fn under_wound_wait_the_younger_one_gives_way() {
    let (mut desk, [old, mid, young]) = Desk::new();
    let held = desk.hold(mid, WOUND, "a", EX);
    let waits = desk.waits(young, WOUND, "a", EX);
    assert_eq!(desk.told(), (vec![], vec![]), "a younger one waits");
    desk.waits(old, WOUND, "a", EX);
    // The one that stood in line before it gives way too, and stands there no more.
    assert_eq!(desk.told(), (vec![mid, young], vec![(young, Refusal::Aborted)]));
    assert_eq!(desk.table.find(young, WOUND, b"a", 0), None, "{waits:?} is gone");
    desk.release(mid, held);
    let granted = desk.table.find(old, WOUND, b"a", 0).and_then(|found| found.held);
    assert_eq!(granted, Some(Claim::Mode(EX)));
    let twin = desk.table.add_owner();
    desk.begin(twin, 1);
    assert_eq!(desk.lock(twin, WOUND, "a", PR), Err(Refusal::Aborted));
}

#[test]
fn who_is_wounded_keeps_what_it_holds_and_gets_no_more() {
    let (mut desk, [old, young, third]) = Desk::new();
    let held = desk.hold(young, WOUND, "a", EX);
    let read = desk.hold(young, DETECT, "b", PR);
    desk.hold(third, DETECT, "c", EX);
    desk.waits(young, DETECT, "c", EX);
    desk.fx.clear();
    desk.waits(old, WOUND, "a", EX);
    assert_eq!(desk.told(), (vec![young], vec![(young, Refusal::Aborted)]), "elsewhere too it waits no more");
    assert!(desk.table.is_wounded(young));
    desk.waits(third, WOUND, "a", EX);
    assert_eq!(desk.told(), (vec![], vec![]), "it is told once");
    for (space, name) in [(WOUND, "new"), (DETECT, "new"), (DIE, "new")] {
        assert_eq!(desk.lock(young, space, name, NL), Err(Refusal::Aborted));
    }
    assert_eq!(desk.convert(young, read, EX, Flags::NONE), Err(Refusal::Aborted));
    assert!(matches!(desk.convert(young, read, CR, Flags::NONE), Ok(Outcome::Granted(_))));
    // What stands alone is no part of the transaction.
    let alone = LockRequest { owner: OwnerRef::Alone, ..request(DETECT, "alone", Claim::Mode(EX)) };
    assert!(matches!(desk.ask_as(young, alone), Ok(Outcome::Granted(_))));
    desk.begin(young, 2);
    assert!(desk.table.is_wounded(young), "said twice is said once");
    desk.release(young, held);
    desk.set_age(young, None);
    desk.begin(young, 2);
    desk.hold(young, WOUND, "new", EX);
}

#[test]
fn without_an_age_nobody_waits_and_everybody_may_be_waited_for() {
    for space in [DIE, WOUND] {
        let (mut desk, [old, young]) = Desk::new();
        let outside = desk.table.add_owner();
        desk.hold(outside, space, "a", EX);
        desk.waits(young, space, "a", PR);
        desk.hold(old, space, "b", PR);
        assert_eq!(desk.lock(outside, space, "b", EX), Err(Refusal::WouldWait));
        let alone = LockRequest { owner: OwnerRef::Alone, ..request(space, "b", Claim::Mode(EX)) };
        assert_eq!(desk.ask_as(young, alone), Err(Refusal::WouldWait));
        // One that stands alone is waited for as well, though its owner is old.
        let alone = LockRequest { owner: OwnerRef::Alone, ..request(space, "c", Claim::Mode(EX)) };
        desk.ask_as(old, alone).expect("free");
        desk.waits(young, space, "c", EX);
        // So is an orphan.
        desk.ask(outside, space, "d", Claim::Mode(EX), Flags::PERSISTENT).expect("free");
        desk.table.end_owner(NOW, outside, Ending::Crash, &mut desk.fx);
        desk.waits(old, space, "d", EX);
        assert_eq!(desk.told(), (vec![], vec![]));
        // Whose transaction ends while it waits waits no more.
        desk.set_age(old, None);
        assert_eq!(desk.told(), (vec![], vec![(old, Refusal::WouldWait)]));
    }
}

#[test]
fn edges_that_come_later_are_judged_too() {
    // One that goes before those that wait.
    let (mut desk, [old, mid, young]) = Desk::new();
    desk.hold(young, DIE, "a", PR);
    desk.waits(mid, DIE, "a", EX);
    desk.ask(old, DIE, "a", Claim::Mode(EX), Flags::HEADQUE).expect("it waits for younger ones");
    assert_eq!(desk.told(), (vec![], vec![(mid, Refusal::Aborted)]));
    // One that is granted out of order.
    let (mut desk, [old, mid, young]) = Desk::new();
    desk.hold(old, WOUND, "a", PR);
    desk.waits(mid, WOUND, "a", EX);
    desk.ask(young, WOUND, "a", Claim::Mode(PR), Flags::NOORDER).expect("compatible");
    assert_eq!(desk.told(), (vec![young], vec![]));
    // An orphan that is adopted.
    let (mut desk, [old, mid]) = Desk::new();
    let dead = desk.table.add_owner();
    desk.ask(dead, DIE, "a", Claim::Mode(EX), Flags::PERSISTENT).expect("free");
    desk.table.end_owner(NOW, dead, Ending::Crash, &mut desk.fx);
    desk.waits(mid, DIE, "a", EX);
    desk.fx.clear();
    desk.ask(old, DIE, "a", Claim::Mode(EX), Flags::ORPHAN).expect("adopted");
    assert_eq!(desk.told(), (vec![], vec![(mid, Refusal::Aborted)]));
    // A transaction that begins with locks it has.
    let (mut desk, [mid]) = Desk::new();
    let late = desk.table.add_owner();
    desk.hold(late, DIE, "a", EX);
    desk.begin(mid, 5);
    desk.waits(mid, DIE, "a", EX);
    desk.begin(late, 2);
    assert_eq!(desk.told(), (vec![], vec![(mid, Refusal::Aborted)]));
    // What was asked for while nobody could say who holds.
    let (mut desk, [old, young]) = Desk::new();
    desk.hold(old, DIE, "a", EX);
    desk.table.freeze();
    desk.waits(young, DIE, "a", EX);
    desk.table.thaw(NOW, &mut desk.fx);
    desk.table.check().expect("sound");
    assert_eq!(desk.told(), (vec![], vec![(young, Refusal::Aborted)]));
}

#[test]
fn a_cycle_over_two_policies_is_found() {
    for other in [DETECT, WOUND] {
        let (mut desk, [old, young]) = Desk::new();
        desk.hold(young, DIE, "a", EX);
        desk.hold(old, other, "b", EX);
        desk.waits(old, DIE, "a", EX);
        // To wait for the older one is right there, and for the younger one here.
        assert_eq!(desk.lock(young, other, "b", EX), Err(Refusal::Deadlock));
        assert!(desk.fx.iter().any(|f| matches!(f, Effect::Deadlock { .. })));
    }
}
