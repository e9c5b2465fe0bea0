//! Slots: frozen each for itself, given up, restored at another table from what others report, and claimed.

use std::sync::Arc;

use lockstead_table::{Claimant, Counts, Effect, Ending, Outcome, OwnerId, Space, Table};
use lockstead_types::{
    Flags, Limits, LockId, Mode, ModeTable, Refusal, RequestId, SessionId, Slot, SlotSet, SpaceId, Span, Time, Token,
    message::Reclaim,
    mode::{ModeSpec, ModeTableSpec},
    peer::WaitReport,
    reply::{Grant, Revoked, Value},
    report::Holder,
    request::{Claim, ConvertRequest, LockRequest, OwnerRef, ReleaseRequest, Wait},
    rows::LockReport,
    space::{DeadlockPolicy, QueuePolicy, VictimPolicy},
    tables::built_in,
};

const NOW: Time = Time::from_nanos(5_000_000_000);
const HERE: SpaceId = SpaceId(0);
const SEED: u64 = 77;
const EPOCH: u32 = 7;
const NL: Mode = Mode(0);
const CR: Mode = Mode(1);
const CW: Mode = Mode(2);
const PR: Mode = Mode(3);
const PW: Mode = Mode(4);
const EX: Mode = Mode(5);

struct Desk {
    table: Table,
    fx: Vec<Effect>,
}

impl Desk {
    fn new() -> Desk {
        Desk::with(QueuePolicy::Vms, DeadlockPolicy::Detect)
    }

    fn with(policy: QueuePolicy, deadlock: DeadlockPolicy) -> Desk {
        Desk::of(Arc::new(built_in("vms").expect("built in")), policy, deadlock)
    }

    fn of(modes: Arc<ModeTable>, policy: QueuePolicy, deadlock: DeadlockPolicy) -> Desk {
        let mut table = Table::new(Limits::default(), EPOCH, 1);
        table.set_slot_seed(SEED);
        let victim = VictimPolicy::Requester;
        table.add_space(
            HERE,
            Space { modes, policy, deadlock, victim, value_bytes: 0, levels: 0, extents: false, persistent: false },
        );
        Desk { table, fx: Vec::new() }
    }

    fn owners<const N: usize>(&mut self) -> [OwnerId; N] {
        [(); N].map(|()| self.table.add_owner())
    }

    fn freeze(&mut self, names: &[&str]) {
        self.table.freeze_slots(&slots(names));
    }

    fn thaw(&mut self, names: &[&str]) {
        self.fx.clear();
        self.table.thaw_slots(NOW, &slots(names), &mut self.fx);
        self.table.check().expect("sound");
    }

    fn ask(&mut self, owner: OwnerId, name: &str, mode: Mode, flags: Flags) -> Result<Outcome, Refusal> {
        let req = LockRequest {
            space: HERE,
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
        match self.ask(owner, name, mode, Flags::NONE) {
            Ok(Outcome::Granted(grant)) => grant,
            other => panic!("{other:?}"),
        }
    }

    fn queue(&mut self, owner: OwnerId, name: &str, mode: Mode) -> LockId {
        match self.ask(owner, name, mode, Flags::NONE) {
            Ok(Outcome::Queued(lock)) => lock,
            other => panic!("{other:?}"),
        }
    }

    fn convert(&mut self, owner: OwnerId, lock: LockId, mode: Mode, flags: Flags) -> Result<Outcome, Refusal> {
        let req = ConvertRequest { lock, mode, wait: Wait::Forever, flags, value: None };
        let answer = self.table.convert(NOW, owner, 2, &req, &mut self.fx);
        self.table.check().expect("sound");
        answer
    }

    fn restore(&mut self, owner: OwnerId, report: &LockReport<'_>, origin: u64) -> Result<LockId, Refusal> {
        let answer = self.table.restore(NOW, Claimant::Owner(owner), report, origin, &mut self.fx);
        self.table.check().expect("sound");
        answer
    }

    fn merge(&mut self, owner: OwnerId, report: &LockReport<'_>, origin: u64) -> Result<LockId, Refusal> {
        let answer = self.table.merge(NOW, owner, report, origin, &mut self.fx);
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
        let answer = self.table.claim_in(NOW, owner, &claim, &mut self.fx);
        self.table.check().expect("sound");
        answer
    }

    fn granted(&self) -> Vec<(OwnerId, u64)> {
        let granted = |f: &Effect| match f {
            Effect::Granted { owner, origin, .. } => Some((*owner, *origin)),
            _ => None,
        };
        self.fx.iter().filter_map(granted).collect()
    }

    fn value(&self, owner: OwnerId, lock: LockId) -> (String, bool) {
        let value = self.table.read_value(owner, lock).expect("held");
        (String::from_utf8_lossy(&value.bytes).into_owned(), value.invalid)
    }
}

fn slots(names: &[&str]) -> SlotSet {
    names.iter().map(|n| Slot::of(SEED, HERE, n.as_bytes())).collect()
}

fn old(n: u64) -> Token {
    Token::new(EPOCH - 1, n).expect("token")
}

fn report(name: &str) -> LockReport<'_> {
    LockReport {
        session: Some(SessionId(1)),
        orphan: false,
        space: HERE,
        name: name.as_bytes(),
        held: None,
        token: Token::NONE,
        before: Token::NONE,
        wanted: None,
        tag: 0,
        alone: false,
        flags: Flags::NONE,
        value: None,
        group: None,
    }
}

fn held(name: &str, mode: Mode, token: u64) -> LockReport<'_> {
    LockReport { held: Some(Claim::Mode(mode)), token: old(token), ..report(name) }
}

fn wait(mode: Mode, ticket: u64, flags: Flags) -> WaitReport {
    WaitReport {
        id: RequestId(1),
        claim: Claim::Mode(mode),
        flags,
        left: None,
        waited: Span::ZERO,
        demoted: false,
        ticket,
        priority: 0,
        value: None,
    }
}

fn waiting(name: &str, mode: Mode, ticket: u64) -> LockReport<'_> {
    LockReport { wanted: Some(wait(mode, ticket, Flags::NONE)), ..report(name) }
}

fn knows<'a>(mut report: LockReport<'a>, value: &str) -> LockReport<'a> {
    report.value = Some(Value { bytes: value.as_bytes().into(), invalid: false });
    report
}

#[test]
fn a_frozen_slot_holds_up_no_other() {
    let mut desk = Desk::new();
    let [a, b] = desk.owners();
    desk.freeze(&["a"]);
    assert!(!desk.table.is_frozen() && desk.table.is_frozen_slot(Slot::of(SEED, HERE, b"a")));
    desk.queue(a, "a", NL);
    let other = desk.grant(a, "b", PR);
    assert!(matches!(desk.convert(a, other.lock, EX, Flags::NONE), Ok(Outcome::Granted(_))));
    desk.queue(b, "b", PR);
    let req = ReleaseRequest { lock: other.lock, flags: Flags::NONE, value: None };
    assert_eq!(desk.table.release(NOW, a, &req, &mut desk.fx), Ok(()));
    assert_eq!(desk.granted(), [(b, 1)]);
    desk.thaw(&["b"]);
    assert_eq!((desk.granted().len(), desk.table.frozen_slots()), (0, slots(&["a"])));
    desk.thaw(&["a"]);
    assert_eq!(desk.granted(), [(a, 1)]);
    assert!(desk.table.frozen_slots().is_empty());
    desk.table.freeze();
    assert!(desk.table.is_frozen());
}

/// b waits to convert behind nobody but a, and a's own conversion came during the freeze: without it it would have been granted.
/// And c waits behind d in a queue that the freeze alone holds up, while d waits for c elsewhere.
#[test]
fn nobody_dies_of_a_freeze() {
    for deadlock in [DeadlockPolicy::Detect, DeadlockPolicy::Timeout] {
        let mut desk = Desk::with(QueuePolicy::Vms, deadlock);
        let [a, b, c, d] = desk.owners();
        let mine = desk.grant(a, "x", CR);
        let its = desk.grant(b, "x", NL);
        assert!(matches!(desk.convert(b, its.lock, EX, Flags::NONE), Ok(Outcome::Queued(_))));
        desk.freeze(&["x", "y"]);
        desk.grant(c, "z", EX);
        desk.queue(d, "y", PR);
        desk.queue(d, "z", PR);
        desk.queue(c, "y", PR);
        assert!(matches!(desk.convert(a, mine.lock, PR, Flags::NONE), Ok(Outcome::Queued(_))));
        desk.thaw(&["x", "y"]);
        let mut granted = desk.granted();
        granted.sort_unstable();
        assert_eq!(granted, [(a, 2), (c, 1), (d, 1)], "{:?}", desk.fx);
        assert!(!desk.fx.iter().any(|f| matches!(f, Effect::Refused { .. } | Effect::Deadlock { .. })));
    }
}

#[test]
fn the_thaw_finds_what_is_a_deadlock() {
    // Two readers that both came to convert during the freeze: the later one pays, also where nobody searches for cycles.
    for deadlock in [DeadlockPolicy::Detect, DeadlockPolicy::Timeout] {
        let mut desk = Desk::with(QueuePolicy::Vms, deadlock);
        let [a, b] = desk.owners();
        let (first, second) = (desk.grant(a, "x", PR), desk.grant(b, "x", PR));
        desk.freeze(&["x"]);
        assert!(matches!(desk.convert(a, first.lock, EX, Flags::NONE), Ok(Outcome::Queued(_))));
        assert!(matches!(desk.convert(b, second.lock, EX, Flags::NONE), Ok(Outcome::Queued(_))));
        desk.thaw(&["x"]);
        let refused = |f: &Effect| matches!(f, Effect::Refused { owner, why: Refusal::Deadlock, .. } if *owner == b);
        assert!(desk.fx.iter().any(refused) && desk.granted().is_empty(), "{:?}", desk.fx);
    }
    // A cycle over two names, of which one is frozen when it is closed.
    let mut desk = Desk::new();
    let [a, b] = desk.owners();
    desk.grant(a, "x", EX);
    desk.grant(b, "y", EX);
    desk.freeze(&["x"]);
    desk.queue(b, "x", EX);
    desk.queue(a, "y", EX);
    assert!(!desk.fx.iter().any(|f| matches!(f, Effect::Refused { .. })));
    desk.thaw(&["x"]);
    assert_eq!(desk.fx.iter().filter(|f| matches!(f, Effect::Refused { why: Refusal::Deadlock, .. })).count(), 1);
}

#[test]
fn no_orphan_is_adopted_during_a_freeze() {
    let mut desk = Desk::new();
    let [b, c] = desk.owners();
    desk.freeze(&["a"]);
    let mut stale = held("a", EX, 5);
    stale.orphan = true;
    let whose = Claimant::Orphan(Some(SessionId(4)));
    assert!(desk.table.restore(NOW, whose, &stale, 0, &mut desk.fx).is_ok());
    desk.table.check().expect("sound");
    assert_eq!(desk.ask(c, "a", EX, Flags::ORPHAN), Err(Refusal::WouldWait));
    // The orphan was another's at the old master in the end.
    let newer = desk.claim(b, EX, old(6)).expect("the newer grant");
    desk.thaw(&["a"]);
    assert_eq!(desk.ask(c, "a", EX, Flags::ORPHAN), Err(Refusal::NotHeld));
    assert_eq!((newer.token, desk.table.counts().orphans), (old(6), 0));
}

#[test]
fn a_slot_given_up_leaves_no_trace() {
    let mut desk = Desk::new();
    let [a, b, c] = desk.owners();
    let kept = desk.grant(a, "b", EX);
    let writer = desk.grant(a, "a", PW);
    assert!(desk.ask(c, "a", NL, Flags::PERSISTENT).is_ok());
    assert!(matches!(desk.convert(a, writer.lock, EX, Flags::NONE), Ok(Outcome::Granted(_))));
    desk.queue(b, "a", EX);
    desk.table.end_owner(NOW, c, Ending::Crash, &mut desk.fx);
    desk.fx.clear();
    desk.freeze(&["a"]);
    desk.table.drop_slots(&slots(&["a"]));
    desk.table.check().expect("sound");
    assert!(desk.fx.is_empty() && desk.table.frozen_slots().is_empty());
    let left = Counts { resources: 1, granted: 1, owners: 2, ..Counts::default() };
    assert_eq!((desk.table.counts(), desk.table.next_deadline()), (left, None));
    assert_eq!(desk.table.owner_lock_ids(a).collect::<Vec<_>>(), [kept.lock]);
    assert_eq!(desk.table.owner_lock_ids(b).count(), 0);
    assert!(desk.table.export_slots(NOW, &slots(&["a"])).next().is_none());
    desk.grant(b, "a", EX);
}

#[test]
fn locks_are_restored_with_their_tokens() {
    let mut desk = Desk::new();
    let [a, b, c] = desk.owners();
    assert_eq!(desk.restore(a, &held("a", PR, 5), 0), Err(Refusal::Lost), "not frozen");
    desk.freeze(&["a"]);
    let first = desk.restore(a, &held("a", PR, 5), 0).expect("restored");
    assert_eq!(desk.restore(a, &held("a", PR, 5), 0), Ok(first), "repeated");
    assert_eq!(desk.restore(a, &held("a", PR, 6), 0), Err(Refusal::Busy), "another of the same tag");
    let shared = desk.restore(b, &held("a", PR, 4), 0).expect("compatible");
    assert_eq!(desk.restore(c, &held("a", EX, 3), 0), Err(Refusal::Lost));
    let mut odd = held("a", PR, 7);
    odd.token = Token::new(EPOCH, 1).expect("token");
    assert_eq!(desk.restore(c, &odd, 0), Err(Refusal::Invalid), "not given yet");
    odd.wanted = Some(wait(EX, 9, Flags::EXPEDITE));
    odd.held = None;
    assert_eq!(desk.restore(c, &odd, 0), Err(Refusal::Invalid), "no such flag of such a wait");
    desk.restore(c, &held("a", EX, 8), 0).expect("the newest");
    let told = [a, b].map(|owner| {
        let lock = if owner == a { first } else { shared };
        Effect::Revoked { owner, lock, why: Revoked::Superseded }
    });
    assert_eq!(desk.fx, told);
    desk.thaw(&["a"]);
    assert_eq!(desk.table.find(c, HERE, b"a", 0).map(|f| f.token), Some(old(8)));
    assert_eq!(desk.restore(a, &held("a", NL, 9), 0), Err(Refusal::Lost), "too late");
}

/// An update lock may come beside readers, and readers not beside it: both are kept if they came so.
#[test]
fn who_came_later_had_to_be_compatible() {
    let mode = |name: &str| ModeSpec { name: name.into(), aliases: Vec::new(), writes: false, intent: None };
    let spec = ModeTableSpec {
        name: "update".into(),
        modes: vec![mode("S"), mode("U")],
        relation: vec!["+ -".into(), "+ -".into()],
        shortcuts: ["S".into(), "U".into(), "U".into()],
    };
    let modes = Arc::new(ModeTable::new(spec).expect("a table"));
    let (reader, updater) = (Mode(0), Mode(1));
    assert!(modes.compatible(updater, reader) && !modes.compatible(reader, updater));
    for (tokens, turned) in [((5, 6), false), ((5, 6), true), ((6, 5), false), ((6, 5), true)] {
        let mut desk = Desk::of(Arc::clone(&modes), QueuePolicy::Vms, DeadlockPolicy::Detect);
        let [a, b] = desk.owners();
        desk.freeze(&["a"]);
        let mut reports = [(a, held("a", reader, tokens.0)), (b, held("a", updater, tokens.1))];
        if turned {
            reports.reverse();
        }
        let kept = reports.map(|(owner, report)| desk.restore(owner, &report, 0).is_ok());
        let both = tokens.0 < tokens.1;
        assert_eq!(desk.table.counts().granted, if both { 2 } else { 1 }, "{tokens:?} {turned} {kept:?}");
    }
}

/// Nobody here knows when another table gave a token.
#[test]
fn the_age_of_a_restored_lock_is_not_made_up() {
    let mut desk = Desk::new();
    let [a] = desk.owners();
    desk.grant(a, "other", EX);
    desk.freeze(&["a"]);
    let lock = desk.restore(a, &held("a", CR, 1), 0).expect("restored");
    desk.thaw(&["a"]);
    let since = |desk: &Desk| {
        let row = desk.table.resource(NOW.after(Span::from_secs(1)), HERE, b"a", 100, &|_| Holder::default());
        row.expect("there").granted[0].since
    };
    assert_eq!(since(&desk), None, "older than anything the node knows");
    assert!(matches!(desk.convert(a, lock, EX, Flags::NONE), Ok(Outcome::Granted(_))));
    assert_eq!(since(&desk), Some(Span::from_secs(1)));
}

#[test]
fn a_demoted_conversion_is_no_rival() {
    for newer_first in [false, true] {
        let mut desk = Desk::new();
        let [a, b] = desk.owners();
        desk.freeze(&["a"]);
        let mut converting = held("a", PR, 5);
        converting.wanted = Some(wait(EX, 3, Flags::CONVDEADLK));
        if newer_first {
            desk.restore(b, &held("a", PW, 6), 0).expect("restored");
        }
        let lock = desk.restore(a, &converting, 4).expect("restored");
        if !newer_first {
            desk.restore(b, &held("a", PW, 6), 0).expect("restored");
        }
        assert!(desk.fx.is_empty(), "{:?}", desk.fx);
        desk.thaw(&["a"]);
        assert_eq!(desk.table.cancel(NOW, a, lock, &mut desk.fx), Ok(()));
        let demoted = Some(Claim::Mode(NL));
        assert!(desk.fx.contains(&Effect::Cancelled { owner: a, origin: 4, lock, demoted }), "{:?}", desk.fx);
    }
}

#[test]
fn waits_come_back_in_their_order() {
    for policy in [QueuePolicy::Vms, QueuePolicy::Fair { overtakes: 9, ageing: Span::from_secs(1) }] {
        let mut desk = Desk::with(policy, DeadlockPolicy::Detect);
        let owners: [OwnerId; 6] = desk.owners();
        // Of the epoch before, in which this table has given tickets too.
        let base = u64::from(EPOCH) << Token::SEQUENCE_BITS;
        desk.table.set_epoch(EPOCH + 1);
        desk.freeze(&["a"]);
        let newcomer = desk.queue(owners[5], "a", EX);
        for (n, place) in [(2, 30), (0, 10), (4, 0), (3, 40), (1, 20)] {
            let ticket = if place == 0 { 0 } else { base + place };
            let mut report = waiting("a", EX, ticket);
            if let Some(wait) = &mut report.wanted {
                // The one without a ticket is the newest.
                wait.waited = Span::from_secs(if place == 0 { 0 } else { 100 - place });
            }
            let lock = desk.restore(owners[n], &report, n as u64).expect("restored");
            assert!(ticket == 0 || desk.table.ticket_of(lock) == Some(ticket));
        }
        assert!(desk.table.ticket_of(newcomer) > Some(base + 40));
        desk.thaw(&["a"]);
        assert_eq!(desk.granted(), [(owners[0], 0)]);
        let set = slots(&["a"]);
        let resource = desk.table.export_slots(NOW, &set).next().expect("there");
        let order: Vec<Claimant> = resource.locks.iter().map(|l| l.whose).collect();
        let expected = [0, 1, 2, 3, 5, 4].map(|n| Claimant::Owner(owners[n]));
        assert_eq!(order, expected, "{policy:?}");
    }
    // A conversion goes on before them, HEADQUE stands first, and a deadline is what is left of it.
    let mut desk = Desk::new();
    let [a, b, c, d] = desk.owners();
    desk.freeze(&["a"]);
    desk.restore(a, &waiting("a", PR, 10), 1).expect("restored");
    let mut first = waiting("a", PR, 20);
    first.wanted = Some(wait(PR, 20, Flags::HEADQUE));
    desk.restore(b, &first, 2).expect("restored");
    let mut late = waiting("a", EX, 5);
    late.wanted.as_mut().expect("waits").left = Some(Span::from_secs(1));
    desk.restore(c, &late, 3).expect("restored");
    let mut converting = held("a", CR, 3);
    converting.wanted = Some(wait(PW, 15, Flags::NONE));
    desk.restore(d, &converting, 4).expect("restored");
    let end = NOW.after(Span::from_secs(1));
    assert_eq!(desk.table.next_deadline(), Some(end));
    desk.thaw(&["a"]);
    assert_eq!(desk.granted(), [(d, 4)]);
    desk.table.end_owner(NOW, d, Ending::Goodbye, &mut desk.fx);
    assert_eq!(desk.granted(), [(d, 4), (b, 2)]);
    desk.table.expire(end, &mut desk.fx);
    assert_eq!(desk.granted(), [(d, 4), (b, 2), (a, 1)]);
}

#[test]
fn a_value_block_is_as_good_as_its_source() {
    // A reader keeps writers out, so what it read is what there is; whoever else reads may be behind.
    let mut desk = Desk::new();
    let [a, b, c] = desk.owners();
    desk.freeze(&["a"]);
    let null = desk.restore(a, &knows(held("a", NL, 9), "late"), 0).expect("restored");
    assert_eq!(desk.value(a, null), ("late".into(), true));
    desk.restore(b, &knows(held("a", NL, 4), "stale"), 0).expect("restored");
    assert_eq!(desk.value(a, null), ("late".into(), true));
    let reader = desk.restore(c, &knows(held("a", PR, 3), "read"), 0).expect("restored");
    assert_eq!(desk.value(c, reader), ("read".into(), false));
    desk.table.restore_value(HERE, b"a", &Value { bytes: (*b"hearsay").into(), invalid: false }, false);
    assert_eq!(desk.value(c, reader), ("read".into(), false));
    desk.table.restore_value(HERE, b"a", &Value { bytes: (*b"told").into(), invalid: false }, true);
    assert_eq!(desk.value(a, null), ("told".into(), false));
    // What is written here beats all of them.
    let req = ReleaseRequest { lock: reader, flags: Flags::NONE, value: None };
    assert_eq!(desk.table.release(NOW, c, &req, &mut desk.fx), Ok(()));
    let writer = desk.restore(c, &held("a", EX, 10), 0).expect("restored");
    let req = ReleaseRequest { lock: writer, flags: Flags::VALBLK, value: Some(b"mine") };
    assert_eq!(desk.table.release(NOW, c, &req, &mut desk.fx), Ok(()));
    desk.table.restore_value(HERE, b"a", &Value { bytes: (*b"told").into(), invalid: false }, true);
    assert_eq!(desk.value(a, null), ("mine".into(), false));
    // Nobody knows it, and a master that says all.
    let mut desk = Desk::new();
    let [a, b] = desk.owners();
    desk.freeze(&["a"]);
    let lock = desk.restore(a, &held("a", CR, 2), 0).expect("restored");
    assert_eq!(desk.value(a, lock), (String::new(), true));
    desk.restore(b, &waiting("a", EX, 1), 3).expect("restored");
    desk.table.finish_values(&slots(&["a"]));
    assert_eq!(desk.value(a, lock), (String::new(), false));
    desk.thaw(&["a"]);
    assert_eq!(desk.value(a, lock), (String::new(), false));
}

#[test]
fn who_waits_at_the_thaw_is_told_of_nothing_for_certain_that_nobody_said() {
    let mut desk = Desk::new();
    let [a, b] = desk.owners();
    desk.freeze(&["a", "b", "c"]);
    let lock = desk.queue(a, "a", PR);
    let told = desk.queue(a, "b", PR);
    desk.table.restore_value(HERE, b"b", &Value { bytes: (*b"told").into(), invalid: false }, true);
    let other = desk.queue(a, "c", PR);
    desk.table.distrust_unsaid(&slots(&["a", "b"]));
    desk.thaw(&["a", "b", "c"]);
    assert_eq!(desk.value(a, lock), (String::new(), true));
    assert_eq!(desk.value(a, told), ("told".into(), false));
    assert_eq!(desk.value(a, other), (String::new(), false), "of another slot");
    // Until it is written, or the last lock goes.
    let beside = desk.grant(b, "a", NL).lock;
    assert_eq!(desk.value(b, beside), (String::new(), true));
    for (owner, lock) in [(a, lock), (b, beside)] {
        let req = ReleaseRequest { lock, flags: Flags::NONE, value: None };
        assert_eq!(desk.table.release(NOW, owner, &req, &mut desk.fx), Ok(()));
    }
    let again = desk.grant(b, "a", NL).lock;
    assert_eq!(desk.value(b, again), (String::new(), false));
}

#[test]
fn a_value_block_waits_for_the_thaw() {
    let mut desk = Desk::new();
    let [a] = desk.owners();
    desk.freeze(&["a", "b"]);
    for name in [b"a", b"b"] {
        desk.table.restore_value(HERE, name, &Value { bytes: (*b"told").into(), invalid: false }, true);
        desk.table.check().expect("sound");
    }
    assert_eq!(desk.table.resources(HERE, b"", 0, (9, 999)).0.len(), 0, "nothing that can be seen");
    let lock = desk.restore(a, &held("a", EX, 2), 0).expect("restored");
    let req = ReleaseRequest { lock, flags: Flags::VALBLK, value: Some(b"mine") };
    assert_eq!(desk.table.release(NOW, a, &req, &mut desk.fx), Ok(()));
    let lock = desk.restore(a, &held("a", CR, 1), 0).expect("restored");
    assert_eq!(desk.value(a, lock), ("mine".into(), false));
    desk.thaw(&["a", "b"]);
    assert_eq!((desk.value(a, lock), desk.table.counts().resources), (("mine".into(), false), 1));
}

#[test]
fn a_claim_is_what_the_client_heard_of() {
    let mut desk = Desk::new();
    let [a, b, c] = desk.owners();
    assert_eq!(desk.claim(a, PR, old(5)), Err(Refusal::Lost));
    let first = desk.grant(a, "a", CR);
    assert!(matches!(desk.convert(a, first.lock, EX, Flags::NONE), Ok(Outcome::Granted(_))));
    desk.queue(b, "a", CR);
    desk.fx.clear();
    // It was granted EX, and never heard of it.
    let grant = desk.claim(a, CR, first.token).expect("there");
    assert_eq!((grant.lock, grant.claim), (first.lock, Claim::Mode(CR)));
    assert!(grant.token > first.token);
    assert_eq!(desk.granted(), [(b, 1)]);
    assert_eq!(desk.claim(a, CR, grant.token), Ok(grant.clone()));
    assert_eq!(desk.claim(a, EX, first.token), Err(Refusal::Lost), "more than it has");
    assert_eq!(desk.claim(c, CR, first.token), Err(Refusal::Lost), "another's");
    // What waits from there waits on; what waits from more it asks for again.
    assert!(matches!(desk.convert(a, first.lock, EX, Flags::NONE), Ok(Outcome::Queued(_))));
    let ticket = desk.table.ticket_of(first.lock);
    assert_eq!(desk.claim(a, CR, grant.token), Ok(grant.clone()));
    assert_eq!(desk.table.ticket_of(first.lock), ticket);
    assert_eq!(desk.claim(a, NL, grant.token).map(|g| g.claim), Ok(Claim::Mode(NL)));
    assert!(desk.fx.iter().any(|f| matches!(f, Effect::Cancelled { origin: 2, demoted: None, .. })), "{:?}", desk.fx);
    // In a frozen slot it is taken back.
    desk.freeze(&["a"]);
    assert_eq!(desk.claim(c, PR, Token::new(EPOCH, 99).expect("token")), Err(Refusal::Invalid), "not given yet");
    assert_eq!(desk.claim(c, PR, old(3)).map(|g| g.token), Ok(old(3)));
}

#[test]
fn tokens_rise_over_nodes_and_epochs() {
    let mut desk = Desk::new();
    let [a] = desk.owners();
    let first = desk.grant(a, "a", EX).token;
    desk.table.raise_sequence(1_000);
    desk.table.raise_sequence(900);
    let second = desk.grant(a, "b", EX).token;
    assert_eq!((first.sequence(), second.sequence(), desk.table.sequence()), (1, 1_001, 1_001));
    desk.table.raise_sequence(Token::SEQUENCE_MAX - 5);
    assert_eq!(desk.table.sequence(), 1_001, "a lie");
    desk.table.set_epoch(EPOCH + 2);
    desk.table.set_epoch(EPOCH + 1);
    let third = desk.grant(a, "c", EX).token;
    assert_eq!((third.epoch(), third.sequence()), (EPOCH + 2, 1_002));
}

/// Members of a group are one owner, and each says of its lock what it knows.
#[test]
fn members_say_each_what_they_know_of_one_lock() {
    let mut desk = Desk::new();
    let [group, other] = desk.owners();
    desk.freeze(&["a"]);
    let lock = desk.restore(group, &held("a", PR, 3), 0).expect("restored");
    let beside = desk.restore(other, &held("a", PR, 4), 0).expect("compatible");
    // One of them heard that it had been converted since.
    assert_eq!(desk.merge(group, &held("a", EX, 9), 0), Ok(lock));
    assert!(matches!(desk.fx[..], [Effect::Revoked { lock, .. }] if lock == beside));
    assert_eq!(desk.table.token_of(lock), Some(old(9)));
    // And one that is behind changes nothing.
    assert_eq!(desk.merge(group, &held("a", PR, 3), 0), Ok(lock));
    assert_eq!(desk.merge(group, &held("a", EX, 9), 0), Ok(lock));
    assert_eq!(desk.table.token_of(lock), Some(old(9)));
    assert_eq!(desk.merge(other, &held("a", EX, 10), 0), Err(Refusal::Lost), "it has no lock there any more");
    desk.thaw(&["a"]);
    assert_eq!(desk.merge(group, &held("a", EX, 9), 0), Err(Refusal::Lost), "too late");
}

#[test]
fn who_yields_says_so_of_the_whole_group() {
    let mut desk = Desk::new();
    let [group, other] = desk.owners();
    desk.freeze(&["a"]);
    desk.restore(group, &held("a", PR, 3), 0).expect("restored");
    desk.restore(other, &held("a", PR, 8), 0).expect("compatible");
    assert_eq!(desk.merge(group, &held("a", EX, 3), 0), Err(Refusal::Lost), "a newer grant conflicts");
    assert_eq!(desk.merge(group, &held("a", CR, 9), 0).map(|lock| desk.table.token_of(lock)), Ok(Some(old(9))));
}

#[test]
fn members_that_let_go_of_different_parts_keep_both() {
    for (one, other) in [(PR, CW), (CW, PR)] {
        let mut desk = Desk::new();
        let [group, reader, writer] = desk.owners();
        desk.freeze(&["a"]);
        let lock = desk.restore(group, &held("a", one, 9), 0).expect("restored");
        assert_eq!(desk.merge(group, &held("a", other, 9), 0), Ok(lock));
        assert_eq!(desk.table.find(group, HERE, b"a", 0).and_then(|f| f.held), Some(Claim::Mode(PW)));
        // What either of them excludes was not granted beside it before.
        desk.restore(reader, &held("a", CR, 4), 0).expect("compatible with both");
        assert_eq!(desk.restore(writer, &held("a", CW, 4), 0), Err(Refusal::Lost));
    }
    // One let go, and another got what the other one counts on.
    let mut desk = Desk::new();
    let [group, reader] = desk.owners();
    desk.freeze(&["a"]);
    desk.restore(group, &held("a", PR, 9), 0).expect("restored");
    desk.restore(reader, &held("a", PR, 12), 0).expect("compatible");
    assert_eq!(desk.merge(group, &held("a", CW, 9), 0), Err(Refusal::Lost));
}

#[test]
fn members_wait_for_the_strongest_that_one_of_them_wants() {
    let mut desk = Desk::new();
    let [group, other, third] = desk.owners();
    desk.freeze(&["a"]);
    let lock = desk.restore(group, &waiting("a", PR, 40), 0).expect("it waits");
    desk.restore(other, &held("a", PR, 8), 0).expect("held");
    desk.restore(third, &waiting("a", EX, 30), 5).expect("it waits");
    assert_eq!(desk.merge(group, &waiting("a", EX, 20), 0), Ok(lock));
    assert_eq!(desk.merge(group, &waiting("a", CR, 40), 0), Ok(lock));
    assert_eq!(desk.table.ticket_of(lock), Some(20));
    assert_eq!(desk.table.find(group, HERE, b"a", 0).and_then(|f| f.wanted), Some(Claim::Mode(EX)));
    // Another member heard that it was granted.
    assert_eq!(desk.merge(group, &held("a", PR, 9), 0), Ok(lock));
    let found = desk.table.find(group, HERE, b"a", 0).expect("it is there");
    assert_eq!((found.held, found.wanted, found.token), (Some(Claim::Mode(PR)), None, old(9)));
    // And one of them asked to convert it.
    let converting = LockReport { wanted: Some(wait(EX, 50, Flags::NONE)), ..held("a", PR, 9) };
    assert_eq!(desk.merge(group, &converting, 7), Ok(lock));
    assert_eq!(desk.table.find(group, HERE, b"a", 0).and_then(|f| f.wanted), Some(Claim::Mode(EX)));
    desk.thaw(&["a"]);
    assert_eq!(desk.granted(), []);
}
