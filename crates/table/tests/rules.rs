//! Rules that no scenario over a live server can show: bounds, tokens at their end, the freeze after a restart, modes that
//! cannot meet.

use std::sync::Arc;

use lockstead_table::{Effect, Ending, Outcome, OwnerId, Space, Table};
use lockstead_types::{
    Flags, LimitName, Limits, LockId, Mode, Refusal, SessionId, SpaceId, Span, Time, Token,
    message::Reclaim,
    reply::{Grant, Revoked},
    request::{Claim, ConvertRequest, LockRequest, OwnerRef, ReleaseRequest, Wait},
    space::{DeadlockPolicy, QueuePolicy, VictimPolicy},
    tables::built_in,
};

const NOW: Time = Time::from_nanos(5_000_000_000);
const HERE: SpaceId = SpaceId(0);
const NL: Mode = Mode(0);
const PR: Mode = Mode(3);
const PW: Mode = Mode(4);
const EX: Mode = Mode(5);

struct Desk {
    table: Table,
    fx: Vec<Effect>,
}

impl Desk {
    fn new(modes: &str, limits: Limits) -> Desk {
        let mut table = Table::new(limits, 7, 1);
        let space = Space {
            modes: Arc::new(built_in(modes).expect("built in")),
            policy: QueuePolicy::Vms,
            deadlock: DeadlockPolicy::Detect,
            victim: VictimPolicy::Requester,
            value_bytes: 0,
            levels: 0,
            extents: false,
            persistent: false,
        };
        table.add_space(HERE, space);
        Desk { table, fx: Vec::new() }
    }

    fn ask(&mut self, owner: OwnerId, name: &str, mode: Mode, flags: Flags) -> Result<Outcome, Refusal> {
        self.ask_in(HERE, owner, name, mode, flags)
    }

    fn ask_in(
        &mut self,
        space: SpaceId,
        owner: OwnerId,
        name: &str,
        mode: Mode,
        flags: Flags,
    ) -> Result<Outcome, Refusal> {
        let req = LockRequest {
            space,
            name: name.as_bytes(),
            claim: Claim::Mode(mode),
            wait: Wait::Forever,
            flags,
            owner: OwnerRef::Session,
            tag: 0,
            priority: 0,
        };
        let answer = self.table.lock(NOW, owner, 1, &req, &mut self.fx);
        self.table.check().expect("sound");
        answer
    }

    fn grant(&mut self, owner: OwnerId, name: &str, mode: Mode) -> Grant {
        self.grant_in(HERE, owner, name, mode)
    }

    fn grant_in(&mut self, space: SpaceId, owner: OwnerId, name: &str, mode: Mode) -> Grant {
        match self.ask_in(space, owner, name, mode, Flags::NONE) {
            Ok(Outcome::Granted(grant)) => grant,
            other => panic!("{other:?}"),
        }
    }

    fn convert(&mut self, owner: OwnerId, lock: LockId, mode: Mode, flags: Flags) -> Result<Outcome, Refusal> {
        let req = ConvertRequest { lock, mode, wait: Wait::Forever, flags, value: None };
        let answer = self.table.convert(NOW, owner, 2, &req, &mut self.fx);
        self.table.check().expect("sound");
        answer
    }

    fn claim(&mut self, owner: OwnerId, mode: Mode, token: Token) -> Result<Grant, Refusal> {
        let claim = Reclaim {
            space: HERE,
            name: b"a",
            held: Claim::Mode(mode),
            token,
            lock: LockId(9),
            tag: 0,
            alone: false,
            group: None,
            part: None,
            flags: Flags::NONE,
        };
        let answer = self.table.reclaim(NOW, owner, &claim, &mut self.fx);
        self.table.check().expect("sound");
        answer
    }
}

fn old(n: u64) -> Token {
    Token::new(6, n).expect("token")
}

#[test]
fn every_bound_has_its_refusal() {
    let limits = Limits {
        locks: 4,
        resources: 2,
        locks_per_session: 3,
        waiters_per_resource: 1,
        orphans: 1,
        ..Limits::default()
    };
    let mut desk = Desk::new("vms", limits);
    let [a, b, c] = [(); 3].map(|()| desk.table.add_owner());
    desk.grant(a, "1", EX);
    desk.grant(a, "2", PR);
    assert_eq!(desk.ask(a, "3", NL, Flags::NONE), Err(Refusal::Limit(LimitName::Resources)));
    assert!(matches!(desk.ask(b, "1", PR, Flags::NONE), Ok(Outcome::Queued(_))));
    assert_eq!(desk.ask(c, "1", PR, Flags::NONE), Err(Refusal::Limit(LimitName::WaitersPerResource)));
    assert!(matches!(desk.ask(c, "2", PR, Flags::PERSISTENT), Ok(Outcome::Granted(_))));
    assert_eq!(desk.ask(b, "2", PR, Flags::PERSISTENT), Err(Refusal::Limit(LimitName::Locks)));
    desk.table.end_owner(NOW, b, Ending::Goodbye, &mut desk.fx);
    let b = desk.table.add_owner();
    assert_eq!(desk.ask(b, "2", PR, Flags::PERSISTENT), Err(Refusal::Limit(LimitName::Orphans)));

    let mut desk = Desk::new("vms", Limits { locks_per_session: 1, ..Limits::default() });
    let a = desk.table.add_owner();
    desk.grant(a, "1", EX);
    assert_eq!(desk.ask(a, "2", EX, Flags::NONE), Err(Refusal::Limit(LimitName::LocksPerSession)));
}

#[test]
fn an_epoch_without_tokens_grants_nothing() {
    let mut desk = Desk::new("vms", Limits::default());
    let a = desk.table.add_owner();
    let b = desk.table.add_owner();
    let held = desk.grant(a, "1", PW);
    desk.table.use_up_tokens_but(1);
    desk.grant(a, "2", EX);
    assert_eq!(desk.table.last_token().sequence(), Token::SEQUENCE_MAX);
    assert_eq!(desk.ask(b, "3", EX, Flags::NONE), Err(Refusal::NoQuorum));
    assert_eq!(desk.convert(a, held.lock, EX, Flags::NONE), Err(Refusal::NoQuorum));
    let down = desk.convert(a, held.lock, PR, Flags::NONE);
    assert!(matches!(down, Ok(Outcome::Granted(g)) if g.token == held.token));
    let req = ReleaseRequest { lock: held.lock, flags: Flags::NONE, value: None };
    assert_eq!(desk.table.release(NOW, a, &req, &mut desk.fx), Ok(()));
}

#[test]
fn modes_that_cannot_meet_are_refused() {
    let mut desk = Desk::new("sqlserver", Limits::default());
    let modes = built_in("sqlserver").expect("built in");
    let [a, b, c] = [(); 3].map(|()| desk.table.add_owner());
    let mode = |name: &str| modes.parse(name).expect("a mode");
    let held = desk.grant(a, "key", mode("X"));
    assert!(matches!(desk.ask(b, "key", mode("RX-X"), Flags::NONE), Ok(Outcome::Queued(_))));
    assert_eq!(desk.ask(c, "key", mode("IX"), Flags::NONE), Err(Refusal::BadMode), "beside one that waits");
    assert_eq!(desk.convert(a, held.lock, mode("SCH-M"), Flags::NONE), Err(Refusal::BadMode));
    assert_eq!(desk.ask(c, "key", Mode(22), Flags::NONE), Err(Refusal::BadMode));
}

#[test]
fn who_comes_back_is_told_again() {
    let mut desk = Desk::new("vms", Limits::default());
    let [a, b] = [(); 2].map(|()| desk.table.add_owner());
    let held = desk.grant(a, "1", PR);
    desk.grant(a, "2", PR);
    assert!(matches!(desk.ask(b, "1", EX, Flags::NONE), Ok(Outcome::Queued(_))));
    let told = vec![Effect::Blocking { owner: a, lock: held.lock, claim: Claim::Mode(EX) }];
    assert_eq!(core::mem::take(&mut desk.fx), told);
    desk.table.repeat_blocking(a, &mut desk.fx);
    assert_eq!(desk.fx, told);
}

#[test]
fn what_was_told_while_nobody_heard_is_told_to_who_comes_back_when_it_blocks_again() {
    let mut desk = Desk::new("vms", Limits::default());
    let [a, b] = [(); 2].map(|()| desk.table.add_owner());
    let held = desk.grant(a, "1", PR);
    let told = vec![Effect::Blocking { owner: a, lock: held.lock, claim: Claim::Mode(EX) }];
    let Ok(Outcome::Queued(waiting)) = desk.ask(b, "1", EX, Flags::NONE) else { panic!("queued") };
    desk.table.cancel(NOW, b, waiting, &mut desk.fx).expect("it waits");
    desk.fx.clear();
    // The connection was broken meanwhile; now nothing is blocked.
    desk.table.repeat_blocking(a, &mut desk.fx);
    assert_eq!(desk.fx, []);
    assert!(matches!(desk.ask(b, "1", EX, Flags::NONE), Ok(Outcome::Queued(_))));
    assert_eq!(desk.fx, told);
}

#[test]
fn a_freeze_holds_until_the_thaw() {
    let mut desk = Desk::new("vms", Limits::default());
    let [a, b, c] = [(); 3].map(|()| desk.table.add_owner());
    desk.table.freeze();
    assert!(matches!(desk.ask(c, "a", PR, Flags::NONE), Ok(Outcome::Queued(_))));
    assert_eq!(desk.ask(c, "b", NL, Flags::NOQUEUE), Err(Refusal::WouldWait));
    let first = desk.claim(a, PW, old(10)).expect("taken back");
    assert_eq!(desk.claim(a, PW, old(10)), Ok(first.clone()), "asked twice, done once");
    assert!(desk.table.read_value(a, first.lock).expect("held").invalid);
    assert_eq!(desk.claim(b, NL, Token::new(7, 1).expect("token")), Err(Refusal::Invalid), "of this epoch");
    let converting = desk.convert(a, first.lock, EX, Flags::NONE);
    assert!(matches!(converting, Ok(Outcome::Queued(_))), "frozen, though nobody is in the way");
    assert_eq!(desk.table.cancel(NOW, a, first.lock, &mut desk.fx), Ok(()));
    assert!(matches!(desk.convert(a, first.lock, PR, Flags::NONE), Ok(Outcome::Granted(g)) if g.token == old(10)));
    desk.fx.clear();
    desk.table.thaw(NOW, &mut desk.fx);
    assert!(matches!(&desk.fx[..], [Effect::Granted { owner, .. }] if *owner == c), "{:?}", desk.fx);
    assert_eq!(desk.claim(b, NL, old(11)), Err(Refusal::Lost), "too late");
}

#[test]
fn of_conflicting_claims_the_newer_wins() {
    let mut desk = Desk::new("vms", Limits::default());
    let [a, b, c] = [(); 3].map(|()| desk.table.add_owner());
    desk.table.freeze();
    let first = desk.claim(a, PR, old(5)).expect("taken back");
    assert_eq!(desk.claim(c, EX, old(4)), Err(Refusal::Lost));
    desk.claim(b, EX, old(6)).expect("newer");
    let told = Effect::Revoked { owner: a, lock: first.lock, why: Revoked::Superseded };
    assert_eq!(desk.fx, [told]);
}

/// Two readers that come and go by conversion starve a writer under `vms`; under `fair` they pass it as often as the
/// bound says, and then wait for it.
#[test]
fn a_writer_is_passed_as_often_as_the_bound_says() {
    for (policy, passes) in [
        (QueuePolicy::Vms, 20),
        (QueuePolicy::Fair { overtakes: 3, ageing: Span::from_secs(1) }, 3),
        (QueuePolicy::Fair { overtakes: 0, ageing: Span::ZERO }, 0),
    ] {
        let mut desk = Desk::new("vms", Limits::default());
        let space = SpaceId(1);
        let modes = Arc::new(built_in("vms").expect("built in"));
        let (deadlock, victim) = (DeadlockPolicy::Detect, VictimPolicy::Requester);
        desk.table.add_space(
            space,
            Space { modes, policy, deadlock, victim, value_bytes: 0, levels: 0, extents: false, persistent: false },
        );
        let [a, b, writer] = [(); 3].map(|()| desk.table.add_owner());
        let mut readers = [a, b].map(|owner| (owner, desk.grant_in(space, owner, "train", NL).lock));
        assert!(matches!(desk.convert(a, readers[0].1, PR, Flags::NONE), Ok(Outcome::Granted(_))));
        assert!(matches!(desk.ask_in(space, writer, "train", EX, Flags::NONE), Ok(Outcome::Queued(_))));
        let mut passed = 0;
        for _ in 0..20 {
            readers.rotate_left(1);
            let [(next, next_lock), (last, last_lock)] = readers;
            match desk.convert(next, next_lock, PR, Flags::NONE) {
                Ok(Outcome::Granted(_)) => passed += 1,
                other => assert!(matches!(other, Ok(Outcome::Queued(_)))),
            }
            desk.fx.clear();
            assert!(matches!(desk.convert(last, last_lock, NL, Flags::NONE), Ok(Outcome::Granted(_))));
            if desk.fx.iter().any(|f| matches!(f, Effect::Granted { owner, .. } if *owner == writer)) {
                break;
            }
        }
        assert_eq!(passed, passes, "{policy:?}");
    }
}

#[test]
fn a_dropped_lockspace_takes_all_with_it() {
    let mut desk = Desk::new("vms", Limits::default());
    let [a, b] = [(); 2].map(|()| desk.table.add_owner());
    let held = desk.grant(a, "1", EX);
    assert!(matches!(desk.ask(b, "1", EX, Flags::NONE), Ok(Outcome::Queued(_))));
    desk.fx.clear();
    assert_eq!(desk.table.drop_space(NOW, HERE, false, &mut desk.fx), Err(Refusal::Busy));
    assert_eq!(desk.table.drop_space(NOW, HERE, true, &mut desk.fx), Ok(()));
    assert!(matches!(desk.fx[0], Effect::Refused { owner, why: Refusal::NoLockspace, .. } if owner == b));
    assert_eq!(desk.fx[1], Effect::Revoked { owner: a, lock: held.lock, why: Revoked::SpaceDropped });
    assert_eq!(desk.ask(a, "1", EX, Flags::NONE), Err(Refusal::NoLockspace));
    assert_eq!((desk.table.counts().resources, desk.table.owner_locks(a)), (0, 0));
    desk.table.check().expect("sound");
}

#[test]
fn orphans_are_purged_by_session() {
    let mut desk = Desk::new("vms", Limits::default());
    for session in [1, 2] {
        let owner = desk.table.add_owner();
        desk.table.set_owner_label(owner, SessionId(session));
        assert!(desk.ask(owner, "1", PR, Flags::PERSISTENT).is_ok());
        desk.table.end_owner(NOW, owner, Ending::Crash, &mut desk.fx);
    }
    assert_eq!(desk.table.counts().orphans, 2);
    assert_eq!(desk.table.purge(NOW, HERE, Some(SessionId(2)), &mut desk.fx), 1);
    assert_eq!(desk.table.purge(NOW, HERE, Some(SessionId(2)), &mut desk.fx), 0);
    assert_eq!(desk.table.purge(NOW, HERE, None, &mut desk.fx), 1);
    assert_eq!(desk.table.counts().resources, 0);
}

#[test]
fn only_a_lost_writer_leaves_the_value_in_doubt() {
    let cases = [
        (EX, Ending::Crash, true),
        (EX, Ending::Goodbye, false),
        (PW, Ending::Crash, true),
        (PR, Ending::Crash, false),
    ];
    for (mode, ending, doubt) in cases {
        let mut desk = Desk::new("vms", Limits::default());
        let [a, b] = [(); 2].map(|()| desk.table.add_owner());
        let witness = desk.grant(b, "1", NL);
        desk.grant(a, "1", mode);
        desk.table.end_owner(NOW, a, ending, &mut desk.fx);
        let value = desk.table.read_value(b, witness.lock).expect("held");
        assert_eq!(value.invalid, doubt, "{mode:?} {ending:?}");
    }
}
