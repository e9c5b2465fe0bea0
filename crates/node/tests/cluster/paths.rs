//! Paths of hierarchies over several masters: all or nothing, many locks become one, and what another home is told.

use lockstead_types::{
    LockId, RequestId, SpaceId, Span,
    hierarchy::{Escalate, EscalateLevel, Escalation, Hierarchy},
    message::{ClientMessage, Reclaim, ServerMessage},
    mode::Mode,
    refusal::Refusal,
    reply::{Notice, PathGrant, Reply, Revoked},
    report::Report,
    request::Query,
    request::{Claim, LockRequest, Op, OwnerRef, Wait},
    space::{ModeChoice, SpaceSpec},
    transaction::{Part, Resume, TransactionStage},
};

use crate::rig::{Client, Cluster, claim_of, refusal, request};

const IS: Mode = Mode(0);
const IX: Mode = Mode(1);
const S: Mode = Mode(2);
const X: Mode = Mode(5);

/// Every name has a master of its own: nothing holds a tree together.
fn create(cluster: &mut Cluster, client: &mut Client, escalation: Escalation) -> SpaceId {
    let hierarchy = Hierarchy { levels: Hierarchy::parse_levels("db/table/row"), escalation };
    let spec = SpaceSpec {
        modes: ModeChoice::BuiltIn("granular".into()),
        hierarchy: Some(Box::new(hierarchy)),
        ..SpaceSpec::named("rows")
    };
    let told = cluster.ask(client, Op::SpaceCreate(Box::new(spec)));
    let [ServerMessage::Reply { reply: Reply::Space(info), .. }] = &told[..] else { panic!("{told:?}") };
    info.space
}

fn after(at: u32) -> Escalation {
    Escalation::To(Escalate { level: EscalateLevel::Parent, at, retry: 1 })
}

fn begin(cluster: &mut Cluster, client: &mut Client) -> lockstead_types::Age {
    let told = cluster.ask(client, Op::Begin { age: None });
    let [ServerMessage::Reply { reply: Reply::Begun(age), .. }] = told[..] else { panic!("{told:?}") };
    age
}

fn path(space: SpaceId, name: &[u8], mode: Mode, wait: Wait) -> Op<'_> {
    Op::LockPath(LockRequest { space, owner: OwnerRef::Transaction, wait, ..request(name, mode) })
}

fn granted(told: &[ServerMessage]) -> Option<PathGrant> {
    told.iter().find_map(|message| match message {
        ServerMessage::Reply { reply: Reply::GrantedPath(path), .. } => Some(path.clone()),
        _ => None,
    })
}

fn locked(cluster: &mut Cluster, client: &mut Client, space: SpaceId, name: &[u8], mode: Mode) -> PathGrant {
    let told = cluster.ask(client, path(space, name, mode, Wait::Forever));
    granted(&told).unwrap_or_else(|| panic!("granted, not {told:?}"))
}

fn modes(path: &PathGrant) -> Vec<Mode> {
    let mode = |claim: Claim| if let Claim::Mode(mode) = claim { mode } else { panic!("a mode") };
    path.grants.iter().map(|grant| mode(grant.claim)).collect()
}

/// What is held on a name, in the order it was granted.
fn held(cluster: &mut Cluster, client: &mut Client, space: SpaceId, name: &[u8]) -> Vec<Mode> {
    let told = cluster.ask(client, Op::Query(Query::Resource { space, name }));
    let report = told.iter().find_map(|message| match message {
        ServerMessage::Reply { reply: Reply::Report(report), .. } => Some(report),
        _ => None,
    });
    let report = report.unwrap_or_else(|| panic!("{told:?}"));
    let Report::Resource(detail) = &**report else { panic!("{report:?}") };
    let rows = detail.iter().flat_map(|detail| &detail.granted);
    rows.filter_map(|row| if let Some(Claim::Mode(mode)) = row.held { Some(mode) } else { None }).collect()
}

/// A name of a table and a row of it, whose masters are these two nodes.
fn row_at(cluster: &Cluster, space: SpaceId, table_at: u16, row_at: u16) -> (Vec<u8>, Vec<u8>) {
    let mut tables = (0..).map(|n| format!("d/t{n}").into_bytes());
    let table = tables.find(|name| cluster.master_of(space, name) == table_at).expect("some table is there");
    let mut rows = (0..).map(|n| [&table[..], format!("/r{n}").as_bytes()].concat());
    let row = rows.find(|name| cluster.master_of(space, name) == row_at).expect("some row is there");
    (table, row)
}

#[test]
fn a_path_leads_over_several_masters() {
    let mut cluster = Cluster::of(3);
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(2, 2));
    let space = create(&mut cluster, &mut a, Escalation::Off);
    let (table, row) = row_at(&cluster, space, 2, 3);
    begin(&mut cluster, &mut a);
    assert_eq!(modes(&locked(&mut cluster, &mut a, space, &row, S)), [IS, IS, S]);
    assert_eq!(modes(&locked(&mut cluster, &mut a, space, &row, X)), [IX, IX, X]);
    assert_eq!(held(&mut cluster, &mut b, space, &table), [IX]);
    // Another one waits for the row, with its intents held.
    begin(&mut cluster, &mut b);
    assert_eq!(granted(&cluster.ask(&mut b, path(space, &row, S, Wait::Forever))), None);
    assert_eq!(held(&mut cluster, &mut a, space, &table), [IX, IS]);
    cluster.ask(&mut a, Op::Commit);
    assert_eq!(modes(&granted(&cluster.told(b.conn)).expect("granted")), [IS, IS, S]);
    cluster.ask(&mut b, Op::Commit);
    for name in [&b"d"[..], &table, &row] {
        assert_eq!(held(&mut cluster, &mut a, space, name), []);
    }
}

#[test]
fn two_paths_of_a_session_share_what_is_above() {
    let mut cluster = Cluster::of(3);
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(2, 2));
    let space = create(&mut cluster, &mut a, Escalation::Off);
    let (table, row) = row_at(&cluster, space, 2, 3);
    let other = [&table[..], b"/other"].concat();
    begin(&mut cluster, &mut a);
    let ops = [path(space, &row, X, Wait::Forever), path(space, &other, S, Wait::Forever)];
    let told = cluster.ask_at_once(&mut a, ops);
    let paths: Vec<PathGrant> = told
        .iter()
        .filter_map(|m| match m {
            ServerMessage::Reply { reply: Reply::GrantedPath(path), .. } => Some(path.clone()),
            _ => None,
        })
        .collect();
    let [first, second] = &paths[..] else { panic!("{told:?}") };
    assert_eq!((first.grants[0].lock, first.grants[1].lock), (second.grants[0].lock, second.grants[1].lock));
    cluster.ask(&mut a, Op::Commit);
    begin(&mut cluster, &mut b);
    assert_eq!(modes(&locked(&mut cluster, &mut b, space, b"d", X)), [X]);
}

#[test]
fn a_path_in_vain_leaves_what_others_rely_on() {
    let mut cluster = Cluster::of(3);
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(2, 2));
    let space = create(&mut cluster, &mut a, Escalation::Off);
    let (table, row) = row_at(&cluster, space, 2, 3);
    let (mine, read) = ([&table[..], b"/mine"].concat(), [&table[..], b"/read"].concat());
    begin(&mut cluster, &mut b);
    locked(&mut cluster, &mut b, space, &row, X);
    begin(&mut cluster, &mut a);
    locked(&mut cluster, &mut a, space, &read, S);
    // In vain, and alone: all is as it was.
    let told = cluster.ask(&mut a, path(space, &row, X, Wait::Never));
    assert_eq!(refusal(&told), Some(Refusal::WouldWait));
    assert_eq!(held(&mut cluster, &mut a, space, &table), [IX, IS]);
    // It waits, and meanwhile another path of the session relies on what it has raised.
    assert_eq!(granted(&cluster.ask(&mut a, path(space, &row, X, Wait::For(Span::from_secs(1))))), None);
    assert_eq!(modes(&locked(&mut cluster, &mut a, space, &mine, X)), [IX, IX, X]);
    cluster.pass(Span::from_millis(1_100));
    assert_eq!(refusal(&cluster.told(a.conn)), Some(Refusal::Timeout));
    assert_eq!(held(&mut cluster, &mut a, space, &table), [IX, IX]);
    cluster.ask(&mut a, Op::Commit);
    cluster.ask(&mut b, Op::Commit);
    assert_eq!(held(&mut cluster, &mut a, space, &table), []);
}

#[test]
fn what_was_below_is_released_once_the_client_knows() {
    let mut cluster = Cluster::of(3);
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(2, 2));
    let space = create(&mut cluster, &mut a, after(3));
    let (table, _) = row_at(&cluster, space, 2, 3);
    let row = |n: u32| [&table[..], format!("/r{n}").as_bytes()].concat();
    begin(&mut cluster, &mut a);
    for n in 0..3 {
        locked(&mut cluster, &mut a, space, &row(n), X);
    }
    let taken = locked(&mut cluster, &mut a, space, &row(3), S);
    assert_eq!((modes(&taken), taken.escalated), (vec![IX, X], true));
    assert_eq!(held(&mut cluster, &mut b, space, &table), [X]);
    assert_eq!(held(&mut cluster, &mut b, space, &row(1)), [X], "its client may not have heard");
    cluster.say(&a, ClientMessage::Ack { answers: 6 });
    for n in 0..4 {
        assert_eq!(held(&mut cluster, &mut b, space, &row(n)), []);
    }
    assert_eq!(modes(&locked(&mut cluster, &mut a, space, &row(1), X)), [IX, X]);
    cluster.ask(&mut a, Op::Commit);
    assert_eq!(held(&mut cluster, &mut b, space, &table), []);
}

/// The home dies after it has made one lock of many, and before its client has heard of that: nobody else gets a row meanwhile.
#[test]
fn an_escalation_nobody_heard_of_loses_nothing() {
    let mut cluster = Cluster::of(3);
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(2, 2));
    let space = create(&mut cluster, &mut b, after(2));
    let (table, _) = row_at(&cluster, space, 2, 3);
    let mut rows = (0..).map(|n| [&table[..], format!("/r{n}").as_bytes()].concat());
    let mut next = || rows.find(|name| cluster.master_of(space, name) != 1).expect("some row");
    let names = [next(), next(), next()];
    let age = begin(&mut cluster, &mut a);
    let first = locked(&mut cluster, &mut a, space, &names[0], X);
    let second = locked(&mut cluster, &mut a, space, &names[1], X);
    assert!(locked(&mut cluster, &mut a, space, &names[2], X).escalated);
    cluster.kill(1);
    cluster.evict(1);
    // What it knows of: the intents and two rows.
    cluster.attach(&mut a, 3);
    cluster.ask(&mut a, Op::Resume(Resume { age, granted: 4, stage: TransactionStage::Growing }));
    let known = [(&b"d"[..], &first.grants[0]), (&table, &first.grants[1])];
    let known = known.into_iter().chain([(&names[0][..], &first.grants[2]), (&names[1][..], &second.grants[2])]);
    for (number, (name, grant)) in (0..).zip(known) {
        let (claim, sealed) = claim_of(name, grant);
        let claim = Reclaim { space, part: Some(Part { number, statement: false }), ..claim };
        let id = RequestId((1 << 63) + number);
        let told = cluster.say(&a, ClientMessage::Reclaim { id, claim, sealed });
        assert_eq!(refusal(&told), None, "{}: {told:?}", String::from_utf8_lossy(name));
    }
    cluster.say(&a, ClientMessage::ReclaimDone);
    assert_eq!(held(&mut cluster, &mut b, space, &table), [IX]);
    assert_eq!(held(&mut cluster, &mut b, space, &names[0]), [X]);
    begin(&mut cluster, &mut b);
    let told = cluster.ask(&mut b, path(space, &names[1], S, Wait::Never));
    assert_eq!(refusal(&told), Some(Refusal::WouldWait));
    // And it goes on: said again, the path makes one of them once more.
    assert!(locked(&mut cluster, &mut a, space, &names[2], X).escalated);
    cluster.ask(&mut a, Op::Commit);
    assert_eq!(held(&mut cluster, &mut b, space, &table), []);
}

/// The master of a row dies while a path waits for it there; the path goes on at the next one.
#[test]
fn a_path_outlives_a_master() {
    let mut cluster = Cluster::of(3);
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(2, 2));
    let space = create(&mut cluster, &mut a, Escalation::Off);
    let (table, row) = row_at(&cluster, space, 2, 3);
    begin(&mut cluster, &mut b);
    locked(&mut cluster, &mut b, space, &row, X);
    begin(&mut cluster, &mut a);
    assert_eq!(granted(&cluster.ask(&mut a, path(space, &row, S, Wait::Forever))), None);
    cluster.kill(3);
    cluster.evict(3);
    assert_eq!(held(&mut cluster, &mut b, space, &row), [X]);
    cluster.ask(&mut b, Op::Commit);
    assert_eq!(modes(&granted(&cluster.told(a.conn)).expect("granted")), [IS, IS, S]);
    cluster.ask(&mut a, Op::Rollback { to: None });
    assert_eq!(held(&mut cluster, &mut b, space, &table), []);
}

/// The slot of a table moves while many locks below it become one.
#[test]
fn an_escalation_at_a_slot_that_moves() {
    let mut cluster = Cluster::of(3);
    let mut a = cluster.open(1, 1);
    let space = create(&mut cluster, &mut a, after(2));
    let (table, _) = row_at(&cluster, space, 2, 3);
    let row = |n: u32| [&table[..], format!("/r{n}").as_bytes()].concat();
    begin(&mut cluster, &mut a);
    locked(&mut cluster, &mut a, space, &row(0), X);
    locked(&mut cluster, &mut a, space, &row(1), X);
    // Its master is out of reach, and dies.
    cluster.cut.extend([(1, 2), (2, 1)]);
    assert_eq!(granted(&cluster.ask(&mut a, path(space, &row(2), X, Wait::Forever))), None);
    cluster.kill(2);
    cluster.evict(2);
    let told = cluster.told(a.conn);
    let taken = granted(&told).unwrap_or_else(|| panic!("{told:?}"));
    assert!(taken.escalated && modes(&taken) == [IX, X], "{taken:?}");
    let mut c = cluster.open(3, 3);
    begin(&mut cluster, &mut c);
    assert_eq!(refusal(&cluster.ask(&mut c, path(space, &row(9), S, Wait::Never))), Some(Refusal::WouldWait));
    cluster.ask(&mut a, Op::Commit);
    locked(&mut cluster, &mut c, space, &row(9), S);
}

/// An operator takes the table away: the rows go with it, wherever they are.
#[test]
fn rows_are_lost_with_their_table() {
    let mut cluster = Cluster::of(3);
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(2, 2));
    let space = create(&mut cluster, &mut a, Escalation::Off);
    let (table, row) = row_at(&cluster, space, 2, 3);
    begin(&mut cluster, &mut a);
    let locks = locked(&mut cluster, &mut a, space, &row, X);
    let [_, of_table, of_row] = &locks.grants[..] else { panic!("{locks:?}") };
    cluster.ask(&mut b, Op::ForceRelease { space, name: &table, token: of_table.token, reason: "test" });
    let told = cluster.told(a.conn);
    let lost = |lock: LockId| told.contains(&ServerMessage::Notice(Notice::Revoked { lock, why: Revoked::Forced }));
    assert!(lost(of_table.lock) && lost(of_row.lock), "{told:?}");
    assert_eq!(held(&mut cluster, &mut b, space, &row), []);
}
