//! Transactions over several masters: released in one message to each, aborted for older ones, taken along to another home.

use lockstead_types::{
    Age, LockId, RequestId, SpaceId, Span,
    message::{ClientMessage, Reclaim, ServerMessage},
    refusal::Refusal,
    reply::{Grant, Notice, Reply},
    request::{LockRequest, Op, OwnerRef},
    space::{DeadlockPolicy, SpaceSpec},
    transaction::{Part, Resume, Savepoint, TransactionStage},
};

use crate::rig::{Client, Cluster, EX, PR, claim_of, granted, is_queued, refusal, request};

fn begin(cluster: &mut Cluster, client: &mut Client) -> Age {
    let told = cluster.ask(client, Op::Begin { age: None });
    let [ServerMessage::Reply { reply: Reply::Begun(age), .. }] = told[..] else { panic!("{told:?}") };
    age
}

fn own(name: &[u8]) -> LockRequest<'_> {
    LockRequest { owner: OwnerRef::Transaction, ..request(name, EX) }
}

fn locked(cluster: &mut Cluster, client: &mut Client, name: &[u8]) -> Grant {
    let told = cluster.ask(client, Op::Lock(own(name)));
    granted(&told).unwrap_or_else(|| panic!("granted, not {told:?}"))
}

fn is_done(told: &[ServerMessage]) -> bool {
    told.iter().any(|message| matches!(message, ServerMessage::Reply { reply: Reply::Done, .. }))
}

fn is_aborted(told: &[ServerMessage]) -> bool {
    told.contains(&ServerMessage::Notice(Notice::Aborted))
}

fn free(cluster: &mut Cluster, client: &mut Client, name: &[u8]) -> bool {
    let asked = Op::Lock(LockRequest { wait: lockstead_types::request::Wait::Never, ..request(name, EX) });
    let told = cluster.ask(client, asked);
    let grant = granted(&told);
    if let Some(grant) = &grant {
        cluster.release(client, grant.lock);
    }
    grant.is_some()
}

fn create(cluster: &mut Cluster, client: &mut Client, deadlock: DeadlockPolicy) -> SpaceId {
    let spec = SpaceSpec { deadlock, ..SpaceSpec::named("accounts") };
    let told = cluster.ask(client, Op::SpaceCreate(Box::new(spec)));
    let [ServerMessage::Reply { reply: Reply::Space(info), .. }] = &told[..] else { panic!("{told:?}") };
    info.space
}

fn name_in(cluster: &Cluster, space: SpaceId, node: u16) -> Vec<u8> {
    let mut names = (0u32..).map(|i| format!("n{i}").into_bytes());
    names.find(|name| cluster.master_of(space, name) == node).expect("some name is there")
}

/// What a client that has come to another home says of its transaction and one lock of it.
fn resume(
    cluster: &mut Cluster,
    client: &mut Client,
    age: Age,
    claims: &[(&[u8], &Grant, u64)],
) -> Vec<Option<LockId>> {
    let granted_so_far = claims.len() as u64;
    let resume = Resume { age, granted: granted_so_far, stage: TransactionStage::Growing };
    let told = cluster.ask(client, Op::Resume(resume));
    assert!(told.iter().any(|m| matches!(m, ServerMessage::Reply { reply: Reply::Begun(_), .. })), "{told:?}");
    let one = |(name, grant, number): &(&[u8], &Grant, u64)| {
        let (claim, sealed) = claim_of(name, grant);
        let claim = Reclaim { part: Some(Part { number: *number, statement: false }), ..claim };
        let told = cluster.say(client, ClientMessage::Reclaim { id: RequestId((1 << 63) | number), claim, sealed });
        granted(&told).map(|grant| grant.lock)
    };
    let claimed = claims.iter().map(one).collect();
    cluster.say(client, ClientMessage::ReclaimDone);
    claimed
}

#[test]
fn a_commit_is_one_message_to_each_master() {
    let mut cluster = Cluster::of(3);
    let names: Vec<Vec<u8>> = (1..=3).flat_map(|node| cluster.names_at(node, 5)).collect();
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(2, 2));
    begin(&mut cluster, &mut a);
    for name in &names {
        locked(&mut cluster, &mut a, name);
    }
    assert!(!names.iter().any(|name| free(&mut cluster, &mut b, name)));
    assert_eq!(cluster.batches, 0);
    assert!(is_done(&cluster.ask(&mut a, Op::Commit)));
    // What this node masters itself it does not send.
    assert_eq!(cluster.batches, 2);
    assert!(names.iter().all(|name| free(&mut cluster, &mut b, name)));
}

#[test]
fn a_rollback_ends_what_waits_and_releases_the_rest() {
    let mut cluster = Cluster::of(2);
    let names = [cluster.name_at(1), cluster.name_at(2), cluster.names_at(2, 2).remove(1)];
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(2, 2));
    cluster.locked(&mut b, &names[2], EX);
    begin(&mut cluster, &mut a);
    locked(&mut cluster, &mut a, &names[0]);
    let told = cluster.ask(&mut a, Op::Savepoint);
    assert!(matches!(told[..], [ServerMessage::Reply { reply: Reply::Savepoint(Savepoint(1)), .. }]), "{told:?}");
    locked(&mut cluster, &mut a, &names[1]);
    assert!(is_queued(&cluster.ask(&mut a, Op::Lock(own(&names[2])))));
    assert_eq!(refusal(&cluster.ask(&mut a, Op::Commit)), Some(Refusal::Busy));
    let told = cluster.ask(&mut a, Op::Rollback { to: Some(Savepoint(1)) });
    assert!(is_done(&told) && refusal(&told) == Some(Refusal::Aborted), "{told:?}");
    assert!(free(&mut cluster, &mut b, &names[1]) && !free(&mut cluster, &mut b, &names[0]));
    // It goes on.
    locked(&mut cluster, &mut a, &names[1]);
    assert!(is_done(&cluster.ask(&mut a, Op::Rollback { to: None })));
    assert!(free(&mut cluster, &mut b, &names[0]) && free(&mut cluster, &mut b, &names[1]));
}

#[test]
fn one_that_lost_a_lock_can_only_be_rolled_back() {
    let mut cluster = Cluster::of(2);
    let (x, y) = (cluster.name_at(1), cluster.name_at(2));
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(2, 2));
    begin(&mut cluster, &mut a);
    let grant = locked(&mut cluster, &mut a, &y);
    locked(&mut cluster, &mut a, &x);
    let force = Op::ForceRelease { space: SpaceId(0), name: &y, token: grant.token, reason: "test" };
    cluster.ask(&mut b, force);
    assert!(is_aborted(&cluster.told(a.conn)));
    assert_eq!(refusal(&cluster.ask(&mut a, Op::Lock(own(&y)))), Some(Refusal::Aborted));
    assert_eq!(refusal(&cluster.ask(&mut a, Op::Commit)), Some(Refusal::Aborted));
    // [TXN-8] Who was away when it was said hears it again.
    let (node, answers) = (a.node, 4);
    let told = cluster.attach_with(&mut a, node, answers);
    assert!(is_aborted(&told), "{told:?}");
    assert!(!free(&mut cluster, &mut b, &x));
    assert!(is_done(&cluster.ask(&mut a, Op::Rollback { to: None })));
    assert!(free(&mut cluster, &mut b, &x));
}

#[test]
fn locks_of_a_slot_that_has_moved_are_released_too() {
    let mut cluster = Cluster::of(3);
    let name = cluster.name_at(2);
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(1, 2));
    begin(&mut cluster, &mut a);
    locked(&mut cluster, &mut a, &name);
    cluster.move_to(&name, 3);
    assert!(is_done(&cluster.ask(&mut a, Op::Commit)));
    assert!(free(&mut cluster, &mut b, &name));
    // Also where its master dies before it hears of it.
    begin(&mut cluster, &mut a);
    locked(&mut cluster, &mut a, &name);
    cluster.cut.insert((1, 3));
    assert!(is_done(&cluster.ask(&mut a, Op::Commit)));
    cluster.kill(3);
    cluster.evict(3);
    assert!(free(&mut cluster, &mut b, &name));
}

#[test]
fn over_masters_the_younger_one_gives_way() {
    let mut cluster = Cluster::of(3);
    let (mut old, mut young) = (cluster.open(1, 1), cluster.open(2, 2));
    let space = create(&mut cluster, &mut old, DeadlockPolicy::WoundWait);
    let (x, y) = (name_in(&cluster, space, 3), name_in(&cluster, space, 2));
    let own = |name| Op::Lock(LockRequest { space, ..own(name) });
    let age = begin(&mut cluster, &mut old);
    assert!(granted(&cluster.ask(&mut old, own(&x))).is_some());
    assert!(begin(&mut cluster, &mut young) > age, "tokens were given in between");
    assert!(granted(&cluster.ask(&mut young, own(&y))).is_some());
    // The younger waits for the older at one master, and is told to give way by another.
    assert!(is_queued(&cluster.ask(&mut young, own(&x))));
    // That somebody waits for what it has.
    assert!(matches!(cluster.told(old.conn)[..], [ServerMessage::Notice(Notice::Blocking { .. })]));
    assert!(is_queued(&cluster.ask(&mut old, own(&y))));
    let told = cluster.told(young.conn);
    assert!(is_aborted(&told) && refusal(&told) == Some(Refusal::Aborted), "{told:?}");
    assert!(is_done(&cluster.ask(&mut young, Op::Rollback { to: None })));
    assert!(granted(&cluster.told(old.conn)).is_some());
    assert!(is_done(&cluster.ask(&mut old, Op::Commit)));
}

#[test]
fn a_wound_does_not_hit_the_next_one() {
    let mut cluster = Cluster::of(3);
    let (mut old, mut young) = (cluster.open(1, 1), cluster.open(2, 2));
    let space = create(&mut cluster, &mut old, DeadlockPolicy::WoundWait);
    let (x, y) = (name_in(&cluster, space, 3), name_in(&cluster, space, 1));
    let own = |name| Op::Lock(LockRequest { space, ..own(name) });
    begin(&mut cluster, &mut old);
    assert!(granted(&cluster.ask(&mut old, own(&y))).is_some());
    begin(&mut cluster, &mut young);
    assert!(granted(&cluster.ask(&mut young, own(&x))).is_some());
    // It is wounded, and does not hear of it before it has gone on to its next transaction.
    cluster.cut.insert((3, 2));
    assert!(is_queued(&cluster.ask(&mut old, own(&x))));
    assert!(is_done(&cluster.ask(&mut young, Op::Commit)));
    begin(&mut cluster, &mut young);
    cluster.cut.clear();
    cluster.pass(Span::from_secs(1));
    assert!(!is_aborted(&cluster.told(young.conn)));
    assert!(is_done(&cluster.ask(&mut young, Op::Commit)));
    assert!(granted(&cluster.told(old.conn)).is_some());
}

#[test]
fn under_wait_die_over_masters_no_cycle_comes_to_be() {
    let mut cluster = Cluster::of(3);
    let (mut old, mut young) = (cluster.open(1, 1), cluster.open(2, 2));
    let space = create(&mut cluster, &mut old, DeadlockPolicy::WaitDie);
    let (x, y) = (name_in(&cluster, space, 3), name_in(&cluster, space, 2));
    let own = |name| Op::Lock(LockRequest { space, ..own(name) });
    let first = begin(&mut cluster, &mut old);
    assert!(granted(&cluster.ask(&mut old, own(&x))).is_some());
    let second = begin(&mut cluster, &mut young);
    assert!(granted(&cluster.ask(&mut young, own(&y))).is_some() && first < second);
    assert!(is_queued(&cluster.ask(&mut old, own(&y))));
    assert_eq!(refusal(&cluster.ask(&mut young, own(&x))), Some(Refusal::Aborted));
    assert!(is_done(&cluster.ask(&mut young, Op::Rollback { to: None })));
    assert!(granted(&cluster.told(old.conn)).is_some());
    // Outside a transaction nobody waits.
    let told = cluster.ask(&mut young, Op::Lock(LockRequest { space, ..request(&x, EX) }));
    assert_eq!(refusal(&told), Some(Refusal::WouldWait));
    assert!(cluster.deadlocks().is_empty());
}

#[test]
fn it_goes_on_at_another_home() {
    let mut cluster = Cluster::of(3);
    let (x, y, z) = (cluster.name_at(3), cluster.name_at(1), cluster.names_at(3, 2).remove(1));
    let (mut a, mut b) = (cluster.open(2, 1), cluster.open(1, 2));
    let age = begin(&mut cluster, &mut a);
    let first = locked(&mut cluster, &mut a, &x);
    let second = locked(&mut cluster, &mut a, &y);
    cluster.kill(2);
    cluster.evict(2);
    cluster.attach(&mut a, 1);
    let claimed = resume(&mut cluster, &mut a, age, &[(&x, &first, 0), (&y, &second, 1)]);
    assert!(claimed.iter().all(Option::is_some), "{claimed:?}");
    let third = locked(&mut cluster, &mut a, &z);
    assert!(third.token > first.token);
    assert!(is_done(&cluster.ask(&mut a, Op::Rollback { to: Some(Savepoint(1)) })));
    assert!(free(&mut cluster, &mut b, &y) && free(&mut cluster, &mut b, &z) && !free(&mut cluster, &mut b, &x));
    assert!(is_done(&cluster.ask(&mut a, Op::Commit)));
    assert!(free(&mut cluster, &mut b, &x));
}

#[test]
fn it_is_aborted_where_a_lock_of_it_cannot_be_claimed() {
    let mut cluster = Cluster::of(3);
    let (x, y) = (cluster.name_at(3), cluster.name_at(1));
    let mut a = cluster.open(2, 1);
    let age = begin(&mut cluster, &mut a);
    let first = locked(&mut cluster, &mut a, &x);
    cluster.kill(2);
    cluster.evict(2);
    cluster.attach(&mut a, 1);
    // A lock that it never had.
    let forged = Grant { lock: LockId(first.lock.0 + 1), seal: None, ..first.clone() };
    let claimed = resume(&mut cluster, &mut a, age, &[(&x, &first, 0), (&y, &forged, 1)]);
    assert!(claimed[0].is_some() && claimed[1].is_none(), "{claimed:?}");
    assert_eq!(refusal(&cluster.ask(&mut a, Op::Commit)), Some(Refusal::Aborted));
    assert!(is_done(&cluster.ask(&mut a, Op::Rollback { to: None })));
}

#[test]
fn what_was_to_be_released_is_not_claimed() {
    let mut cluster = Cluster::of(3);
    let x = cluster.name_at(3);
    let (mut a, mut b) = (cluster.open(2, 1), cluster.open(1, 2));
    let age = begin(&mut cluster, &mut a);
    locked(&mut cluster, &mut a, &x);
    // Its home dies with the commit; the client asks again, and claims nothing.
    cluster.kill(2);
    cluster.evict(2);
    cluster.attach(&mut a, 1);
    resume(&mut cluster, &mut a, age, &[]);
    assert!(is_done(&cluster.ask(&mut a, Op::Commit)));
    assert!(free(&mut cluster, &mut b, &x));
    let told = cluster.ask(&mut b, Op::Lock(request(&x, PR)));
    assert!(granted(&told).is_some());
}

#[test]
fn a_rollback_stops_a_request_for_several_names() {
    let mut cluster = Cluster::of(3);
    let (x, y) = (cluster.name_at(3), cluster.name_at(2));
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(2, 2));
    let held = cluster.locked(&mut b, &y, EX);
    begin(&mut cluster, &mut a);
    cluster.ask(&mut a, Op::LockMany(vec![own(&x), own(&y)]));
    let told = cluster.ask(&mut a, Op::Rollback { to: None });
    assert!(is_done(&told) && refusal(&told) == Some(Refusal::Aborted), "{told:?}");
    cluster.release(&mut b, held.lock);
    assert!(free(&mut cluster, &mut b, &x) && free(&mut cluster, &mut b, &y));
}

#[test]
fn to_roll_back_all_goes_before_a_savepoint() {
    let mut cluster = Cluster::of(2);
    let y = cluster.name_at(2);
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(2, 2));
    cluster.locked(&mut b, &y, EX);
    begin(&mut cluster, &mut a);
    assert!(is_queued(&cluster.ask(&mut a, Op::Lock(own(&y)))));
    // What waits at the other node cannot be stopped just now.
    cluster.cut.extend([(1, 2), (2, 1)]);
    assert_eq!(cluster.ask(&mut a, Op::Rollback { to: Some(Savepoint(0)) }), []);
    assert_eq!(refusal(&cluster.ask(&mut a, Op::Rollback { to: None })), Some(Refusal::Aborted));
    cluster.join(1, 2);
    cluster.pass(Span::from_secs(1));
    assert!(is_done(&cluster.told(a.conn)));
    begin(&mut cluster, &mut a);
}

#[test]
fn a_count_of_grants_that_is_made_up_stops_no_node() {
    let mut cluster = Cluster::of(3);
    let x = cluster.name_at(3);
    let mut a = cluster.open(2, 1);
    let age = begin(&mut cluster, &mut a);
    cluster.kill(2);
    cluster.evict(2);
    cluster.attach(&mut a, 1);
    let resume = Resume { age, granted: u64::MAX, stage: TransactionStage::Growing };
    cluster.ask(&mut a, Op::Resume(resume));
    cluster.say(&a, ClientMessage::ReclaimDone);
    locked(&mut cluster, &mut a, &x);
    let y = cluster.name_at(1);
    locked(&mut cluster, &mut a, &y);
    assert!(is_done(&cluster.ask(&mut a, Op::Commit)));
}

#[test]
fn an_abort_outlives_coming_to_the_same_home_again() {
    let mut cluster = Cluster::of(3);
    let x = cluster.name_at(3);
    let (mut a, mut b) = (cluster.open(2, 1), cluster.open(1, 2));
    let age = begin(&mut cluster, &mut a);
    let first = locked(&mut cluster, &mut a, &x);
    cluster.kill(2);
    cluster.evict(2);
    cluster.attach(&mut a, 1);
    let resume = Resume { age, granted: 1, stage: TransactionStage::Growing };
    cluster.ask(&mut a, Op::Resume(resume));
    let (claim, sealed) = claim_of(&x, &first);
    let claim = Reclaim { part: Some(Part { number: 0, statement: false }), ..claim };
    let told = cluster.say(&a, ClientMessage::Reclaim { id: RequestId(1 << 63), claim: claim.clone(), sealed });
    let token = granted(&told).expect("its own").token;
    cluster.ask(&mut b, Op::ForceRelease { space: SpaceId(0), name: &x, token, reason: "test" });
    // Its client did not hear of it, and says again how it was.
    cluster.attach(&mut a, 1);
    cluster.ask(&mut a, Op::Resume(resume));
    cluster.say(&a, ClientMessage::ReclaimDone);
    assert_eq!(refusal(&cluster.ask(&mut a, Op::Commit)), Some(Refusal::Aborted));
}

#[test]
fn who_tries_again_is_never_the_victim_of_who_came_later() {
    for again in [false, true] {
        let mut cluster = Cluster::of(2);
        let space = SpaceId(0);
        let (x, y) = (name_in(&cluster, space, 1), name_in(&cluster, space, 2));
        let (mut a, mut b) = (cluster.open(1, 1), cluster.open(2, 2));
        let first = begin(&mut cluster, &mut a);
        assert!(is_done(&cluster.ask(&mut a, Op::Rollback { to: None })));
        begin(&mut cluster, &mut b);
        let told = cluster.ask(&mut a, Op::Begin { age: again.then_some(first) });
        assert!(matches!(&told[..], [ServerMessage::Reply { reply: Reply::Begun(_), .. }]));
        locked(&mut cluster, &mut a, &x);
        locked(&mut cluster, &mut b, &y);
        assert!(is_queued(&cluster.ask(&mut b, Op::Lock(own(&x)))));
        assert!(cluster.told(a.conn).iter().any(|m| matches!(m, ServerMessage::Notice(Notice::Blocking { .. }))));
        cluster.pass(Span::from_millis(5));
        // By how long they have waited it would be a.
        assert!(is_queued(&cluster.ask(&mut a, Op::Lock(own(&y)))));
        cluster.pass(Span::from_millis(400));
        let refused = [a, b].map(|client| {
            let told = cluster.told(client.conn);
            told.iter().any(|m| matches!(m, ServerMessage::Reply { reply: Reply::Refused(Refusal::Deadlock), .. }))
        });
        assert_eq!(refused, [!again, again], "tried again: {again}");
    }
}
