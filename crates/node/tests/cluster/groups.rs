//! Groups whose members have their sessions at different nodes: the same rules as at a node alone, whoever masters the lock, and through
//! moves, deaths of masters and deaths of homes.

use lockstead_cluster::{Command, EndWhy};
use lockstead_types::{
    Flags, GroupId, Mode, RequestId, SpaceId, Span,
    message::{ClientMessage, Reclaim, ServerMessage},
    refusal::Refusal,
    reply::{Grant, Notice, Reply, Revoked, Value},
    request::{Claim, LockRequest, Op, OwnerRef, ReleaseRequest, Target, Wait},
};

use crate::rig::*;

const TEAM: &[u8] = b"team";

/// A member, with its home's number of the group.
fn join(cluster: &mut Cluster, client: &mut Client) -> GroupId {
    let told = cluster.ask(client, Op::GroupAttach { name: TEAM });
    match told[..] {
        [ServerMessage::Reply { reply: Reply::Group(group), .. }] => group,
        _ => panic!("not attached: {told:?}"),
    }
}

fn member(cluster: &mut Cluster, node: u16, session: u128) -> (Client, GroupId) {
    let mut client = cluster.open(node, session);
    let group = join(cluster, &mut client);
    (client, group)
}

fn of_group(name: &[u8], mode: Mode, group: GroupId) -> LockRequest<'_> {
    LockRequest { owner: OwnerRef::Group(group), ..request(name, mode) }
}

fn ask(cluster: &mut Cluster, who: &mut (Client, GroupId), name: &[u8], mode: Mode) -> Vec<ServerMessage> {
    let request = of_group(name, mode, who.1);
    cluster.ask(&mut who.0, Op::Lock(request))
}

fn use_it(cluster: &mut Cluster, who: &mut (Client, GroupId), name: &[u8], mode: Mode) -> Grant {
    let told = ask(cluster, who, name, mode);
    granted(&told).unwrap_or_else(|| panic!("granted {mode:?}, not {told:?}"))
}

fn value(told: &[ServerMessage]) -> Option<Value> {
    told.iter().find_map(|m| match m {
        ServerMessage::Reply { reply: Reply::Value(value), .. } => Some(value.clone()),
        _ => None,
    })
}

fn write_and_leave(cluster: &mut Cluster, who: &mut Client, grant: &Grant, value: &[u8]) -> Vec<ServerMessage> {
    let release = ReleaseRequest { lock: grant.lock, flags: Flags::VALBLK, value: Some(value) };
    cluster.ask(who, Op::Release { release, one_way: false })
}

fn claim(cluster: &mut Cluster, client: &Client, name: &[u8], grant: &Grant) -> Option<Grant> {
    let (claim, sealed) = claim_of(name, grant);
    let claim = Reclaim { group: Some(TEAM), ..claim };
    granted(&cluster.say(client, ClientMessage::Reclaim { id: RequestId(1 << 63), claim, sealed }))
}

/// Members at nodes 1 and 2, a stranger at node 3.
fn team(nodes: u16) -> (Cluster, (Client, GroupId), (Client, GroupId), Client) {
    let mut cluster = Cluster::of(nodes);
    let (a, b) = (member(&mut cluster, 1, 1), member(&mut cluster, 2, 2));
    let c = cluster.open(nodes.min(3), 3);
    (cluster, a, b, c)
}

#[test]
fn members_share_wherever_the_lock_is() {
    for master in 1..=3 {
        let (mut cluster, mut a, mut b, mut c) = team(3);
        let name = &cluster.name_at(master);
        let first = use_it(&mut cluster, &mut a, name, EX);
        assert!(is_queued(&cluster.lock(&mut c, name, EX)));
        let second = use_it(&mut cluster, &mut b, name, PR);
        assert_eq!((second.token, second.claim), (first.token, Claim::Mode(EX)), "past who waits");
        let again = use_it(&mut cluster, &mut b, name, EX);
        assert_eq!(again.lock, second.lock, "a session knows it by one id");
        assert!(is_released(&cluster.release(&mut a.0, first.lock)));
        assert_eq!(refusal(&cluster.release(&mut a.0, first.lock)), Some(Refusal::NotHeld));
        assert!(is_released(&cluster.release(&mut b.0, second.lock)));
        assert_eq!(granted(&cluster.told(c.conn)), None, "asked twice, to be released twice");
        assert!(is_released(&cluster.release(&mut b.0, second.lock)));
        assert!(granted(&cluster.told(c.conn)).is_some_and(|grant| grant.token > first.token));
    }
}

#[test]
fn only_members_use_a_groups_locks_at_any_home() {
    let (mut cluster, mut a, mut b, mut c) = team(3);
    let name = &cluster.name_at(2);
    let held = use_it(&mut cluster, &mut a, name, EX);
    assert_eq!(refusal(&ask(&mut cluster, &mut (c.clone(), a.1), name, EX)), Some(Refusal::NotHeld));
    c = cluster.open(3, 4);
    assert_eq!(refusal(&cluster.release(&mut c, held.lock)), Some(Refusal::NotHeld));
    assert_eq!(refusal(&cluster.release(&mut b.0, held.lock)), Some(Refusal::NotHeld), "a member that does not use it");
    assert_eq!(refusal(&cluster.ask(&mut c, Op::GroupDetach(a.1))), Some(Refusal::NotHeld));
    assert_eq!(join(&mut cluster, &mut a.0), a.1, "attaching twice is attaching once");
    let persistent = LockRequest { flags: Flags::PERSISTENT, ..of_group(b"other", EX, a.1) };
    assert_eq!(refusal(&cluster.ask(&mut a.0, Op::Lock(persistent))), Some(Refusal::Invalid));
    let mut other = cluster.open(1, 5);
    let named = cluster.ask(&mut other, Op::GroupAttach { name: b"another" });
    let [ServerMessage::Reply { reply: Reply::Group(another), .. }] = named[..] else { panic!("{named:?}") };
    assert!(is_queued(&ask(&mut cluster, &mut (other, another), name, PR)), "another group is another owner");
}

#[test]
fn users_are_told_whom_they_block_and_what_they_lose() {
    let (mut cluster, mut a, mut b, mut c) = team(3);
    let (name, d) = (&cluster.name_at(3), member(&mut cluster, 1, 9));
    let held = [use_it(&mut cluster, &mut a, name, EX), use_it(&mut cluster, &mut b, name, EX)];
    assert!(is_queued(&cluster.lock(&mut c, name, PR)));
    for (who, grant) in [(&a, &held[0]), (&b, &held[1])] {
        assert_eq!(blocking(&cluster.told(who.0.conn)), Some((grant.lock, Claim::Mode(PR))));
    }
    assert_eq!(cluster.told(d.0.conn), [], "a member that does not use it");
    let op = Op::ForceRelease { space: SpaceId(0), name, token: held[0].token, reason: "stuck" };
    cluster.ask(&mut c, op);
    for (who, grant) in [(&a, &held[0]), (&b, &held[1])] {
        let notice = Notice::Revoked { lock: grant.lock, why: Revoked::Forced };
        assert_eq!(cluster.told(who.0.conn), [ServerMessage::Notice(notice)]);
    }
}

#[test]
fn members_of_two_homes_wait_together() {
    let (mut cluster, mut a, mut b, mut c) = team(3);
    let name = &cluster.name_at(3);
    let held = cluster.locked(&mut c, name, EX);
    let short = LockRequest { wait: Wait::For(Span::from_secs(2)), ..of_group(name, PR, a.1) };
    assert!(is_queued(&cluster.ask(&mut a.0, Op::Lock(short))));
    assert_eq!(refusal(&ask(&mut cluster, &mut b, name, EX)), Some(Refusal::Busy), "more than the group waits for");
    assert!(is_queued(&ask(&mut cluster, &mut b, name, PR)));
    let never = LockRequest { wait: Wait::Never, ..of_group(name, PR, b.1) };
    assert_eq!(refusal(&cluster.ask(&mut b.0, Op::Lock(never))), Some(Refusal::WouldWait));
    cluster.pass(Span::from_secs(2));
    assert_eq!(refusal(&cluster.told(a.0.conn)), Some(Refusal::Timeout));
    assert_eq!(cluster.told(b.0.conn), [], "b waits on");
    let told = ask(&mut cluster, &mut a, name, PR);
    assert!(is_queued(&told));
    assert!(is_released(&cluster.release(&mut c, held.lock)));
    let grants = [&a, &b].map(|who| granted(&cluster.told(who.0.conn)).expect("both are granted it"));
    assert_eq!(grants[0].token, grants[1].token);
    // A cancel is of one's own wait, by its lock too.
    let [one, two] = grants;
    cluster.release(&mut a.0, one.lock);
    cluster.release(&mut b.0, two.lock);
    let held = cluster.locked(&mut c, name, EX);
    let waits = [ask(&mut cluster, &mut a, name, PR), ask(&mut cluster, &mut b, name, PR)];
    let ServerMessage::Reply { reply: Reply::Queued(queued), .. } = &waits[0][0] else { panic!("{waits:?}") };
    cluster.ask(&mut a.0, Op::Cancel(Target::Lock(queued.lock)));
    assert!(is_released(&cluster.release(&mut c, held.lock)));
    assert_eq!(granted(&cluster.told(a.0.conn)), None);
    assert!(granted(&cluster.told(b.0.conn)).is_some());
}

#[test]
fn nothing_changes_under_a_user_of_another_home() {
    let (mut cluster, mut a, mut b, _) = team(3);
    let name = &cluster.name_at(3);
    let held = use_it(&mut cluster, &mut a, name, EX);
    let beside = use_it(&mut cluster, &mut b, name, PR);
    assert_eq!(refusal(&cluster.convert(&mut a.0, held.lock, PR)), Some(Refusal::Busy));
    assert_eq!(refusal(&cluster.convert(&mut b.0, beside.lock, PR)), Some(Refusal::Busy));
    assert!(is_released(&write_and_leave(&mut cluster, &mut a.0, &held, b"new")));
    let read = value(&cluster.ask(&mut b.0, Op::ReadValue(beside.lock)));
    assert_eq!(read, Some(Value { bytes: (*b"new").into(), invalid: false }));
    let down = granted(&cluster.convert(&mut b.0, beside.lock, PR)).expect("alone now");
    let up = granted(&cluster.convert(&mut b.0, beside.lock, EX)).expect("alone now");
    assert!(up.token > down.token);
    assert_eq!(use_it(&mut cluster, &mut a, name, PR).token, up.token);
}

#[test]
fn who_detaches_gives_back_what_it_uses_and_waits_for() {
    let (mut cluster, mut a, mut b, mut c) = team(3);
    let names = cluster.names_at(3, 3);
    let other = cluster.locked(&mut c, &names[2], EX);
    for name in &names[..2] {
        use_it(&mut cluster, &mut a, name, EX);
        use_it(&mut cluster, &mut a, name, EX);
    }
    use_it(&mut cluster, &mut b, &names[0], EX);
    assert!(is_queued(&ask(&mut cluster, &mut a, &names[2], EX)));
    let told = cluster.ask(&mut a.0, Op::GroupDetach(a.1));
    let ends: Vec<&Reply> = told
        .iter()
        .filter_map(|m| if let ServerMessage::Reply { reply, .. } = m { Some(reply) } else { None })
        .collect();
    assert_eq!(ends, [&Reply::Done, &Reply::Cancelled]);
    cluster.told(c.conn);
    assert!(is_queued(&cluster.lock(&mut c, &names[0], EX)), "b uses it still");
    cluster.locked(&mut c, &names[1], EX);
    assert!(is_released(&cluster.release(&mut c, other.lock)));
    let d = &mut cluster.open(1, 8);
    cluster.locked(d, &names[2], EX);
    let gone = cluster.say(&b.0, ClientMessage::Goodbye);
    assert_eq!(refusal(&gone), None);
    assert!(granted(&cluster.told(c.conn)).is_some(), "with its last user");
}

/// Each use is given back, and only then a stranger's turn comes.
fn give_back(cluster: &mut Cluster, users: &mut [(&mut Client, &Grant)], stranger: &Client) {
    for (user, grant) in users.iter_mut() {
        assert_eq!(granted(&cluster.told(stranger.conn)), None, "somebody uses it still");
        let told = cluster.release(user, grant.lock);
        assert!(is_released(&told), "{told:?}");
    }
    let grant = granted(&cluster.told(stranger.conn)).expect("its turn");
    assert!(users.iter().all(|(_, before)| before.token < grant.token));
}

#[test]
fn a_lock_moves_with_all_its_users() {
    let (mut cluster, mut a, mut b, mut c) = team(3);
    let name = &cluster.name_at(2);
    let (one, two) = (use_it(&mut cluster, &mut a, name, EX), use_it(&mut cluster, &mut b, name, EX));
    use_it(&mut cluster, &mut b, name, EX);
    assert!(is_queued(&cluster.lock(&mut c, name, EX)));
    for to in [1, 3, 2, 3] {
        cluster.move_to(name, to);
    }
    let mut d = member(&mut cluster, 1, 9);
    let three = use_it(&mut cluster, &mut d, name, PR);
    assert_eq!((three.token, three.claim), (one.token, Claim::Mode(EX)));
    assert!(is_released(&cluster.release(&mut b.0, two.lock)), "as often as it asked");
    let users = &mut [(&mut b.0, &two), (&mut a.0, &one), (&mut d.0, &three)];
    give_back(&mut cluster, users, &c);
}

#[test]
fn waits_of_members_move_with_what_the_group_wants() {
    let (mut cluster, mut a, mut b, mut c) = team(3);
    let name = &cluster.name_at(2);
    let held = cluster.locked(&mut c, name, EX);
    // The one that wants less is reported after the other, and before it.
    assert!(is_queued(&ask(&mut cluster, &mut b, name, EX)));
    assert!(is_queued(&ask(&mut cluster, &mut a, name, PR)));
    let mut later = cluster.open(1, 7);
    assert!(is_queued(&cluster.lock(&mut later, name, PR)));
    for to in [1, 3, 2] {
        cluster.move_to(name, to);
    }
    cluster.told(c.conn);
    assert!(is_released(&cluster.release(&mut c, held.lock)));
    let grants = [&a, &b].map(|who| granted(&cluster.told(who.0.conn)).expect("both are granted it"));
    assert!(grants.iter().all(|grant| grant.claim == Claim::Mode(EX) && grant.token == grants[0].token));
    give_back(&mut cluster, &mut [(&mut a.0, &grants[0]), (&mut b.0, &grants[1])], &later);
}

#[test]
fn a_lock_outlives_its_master() {
    let (mut cluster, mut a, mut b, mut c) = team(4);
    let name = &cluster.name_at(4);
    let (one, two) = (use_it(&mut cluster, &mut a, name, EX), use_it(&mut cluster, &mut b, name, EX));
    assert!(is_queued(&cluster.lock(&mut c, name, EX)));
    cluster.kill(4);
    cluster.evict(4);
    assert_eq!(use_it(&mut cluster, &mut a, name, PR).token, one.token);
    assert!(is_released(&cluster.release(&mut a.0, one.lock)));
    give_back(&mut cluster, &mut [(&mut a.0, &one), (&mut b.0, &two)], &c);
}

/// What a session claims at another home, as a member again.
fn come(cluster: &mut Cluster, who: &mut (Client, GroupId), node: u16, name: &[u8], grant: &Grant) -> Grant {
    cluster.attach(&mut who.0, node);
    who.1 = join(cluster, &mut who.0);
    let claimed = claim(cluster, &who.0, name, grant).expect("its own lock");
    cluster.say(&who.0, ClientMessage::ReclaimDone);
    claimed
}

#[test]
fn a_user_whose_home_dies_claims_its_use_at_another() {
    let (mut cluster, mut a, mut b, mut c) = team(3);
    let name = &cluster.name_at(3);
    let (one, two) = (use_it(&mut cluster, &mut a, name, EX), use_it(&mut cluster, &mut b, name, EX));
    assert!(is_queued(&cluster.lock(&mut c, name, EX)));
    cluster.kill(2);
    cluster.evict(2);
    let again = come(&mut cluster, &mut b, 1, name, &two);
    assert_eq!((again.token, again.claim), (one.token, Claim::Mode(EX)));
    give_back(&mut cluster, &mut [(&mut a.0, &one), (&mut b.0, &again)], &c);
}

#[test]
fn a_use_that_is_not_claimed_is_over_and_what_it_wrote_is_in_doubt() {
    let (mut cluster, mut a, mut b, mut c) = team(3);
    let name = &cluster.name_at(3);
    let one = use_it(&mut cluster, &mut a, name, EX);
    use_it(&mut cluster, &mut b, name, EX);
    assert!(is_queued(&cluster.lock(&mut c, name, EX)));
    cluster.kill(2);
    cluster.evict(2);
    cluster.attach(&mut b.0, 1);
    cluster.say(&b.0, ClientMessage::ReclaimDone);
    let read = value(&cluster.ask(&mut a.0, Op::ReadValue(one.lock)));
    assert!(read.is_some_and(|value| value.invalid), "b may have let go with a value that reached nobody");
    give_back(&mut cluster, &mut [(&mut a.0, &one)], &c);
}

#[test]
fn nobody_joins_in_before_it_is_known_who_holds() {
    let (mut cluster, mut a, mut b, mut c) = team(3);
    let name = &cluster.name_at(2);
    let (one, two) = (use_it(&mut cluster, &mut a, name, EX), use_it(&mut cluster, &mut b, name, EX));
    assert!(is_queued(&cluster.lock(&mut c, name, EX)));
    // The master, and with it a home.
    cluster.kill(2);
    cluster.evict(2);
    let (mut d, mut e) = (member(&mut cluster, 1, 8), member(&mut cluster, 3, 9));
    let never = LockRequest { wait: Wait::Never, ..of_group(name, PR, d.1) };
    assert_eq!(refusal(&cluster.ask(&mut d.0, Op::Lock(never))), Some(Refusal::WouldWait));
    assert!(is_queued(&ask(&mut cluster, &mut d, name, PR)));
    let short = LockRequest { wait: Wait::For(Span::from_secs(1)), ..of_group(name, PR, e.1) };
    assert!(is_queued(&cluster.ask(&mut e.0, Op::Lock(short))));
    cluster.pass(Span::from_secs(1));
    assert_eq!(refusal(&cluster.told(e.0.conn)), Some(Refusal::Timeout));
    let again = come(&mut cluster, &mut b, 3, name, &two);
    let three = granted(&cluster.told(d.0.conn)).expect("all is known now");
    assert_eq!((three.token, three.claim), (one.token, Claim::Mode(EX)));
    give_back(&mut cluster, &mut [(&mut d.0, &three), (&mut b.0, &again), (&mut a.0, &one)], &c);
}

#[test]
fn who_would_have_joined_in_waits_when_the_last_user_has_gone() {
    let (mut cluster, mut a, b, mut c) = team(3);
    let name = &cluster.name_at(2);
    let one = use_it(&mut cluster, &mut a, name, EX);
    assert!(is_queued(&cluster.lock(&mut c, name, EX)));
    cluster.kill(2);
    cluster.evict(2);
    let mut d = member(&mut cluster, 1, 8);
    assert!(is_queued(&ask(&mut cluster, &mut d, name, PR)));
    assert!(is_released(&cluster.release(&mut a.0, one.lock)));
    let mut b = b;
    cluster.attach(&mut b.0, 3);
    cluster.told(d.0.conn);
    cluster.say(&b.0, ClientMessage::ReclaimDone);
    let first = granted(&cluster.told(c.conn)).expect("it came first");
    assert_eq!(granted(&cluster.told(d.0.conn)), None);
    assert!(is_released(&cluster.release(&mut c, first.lock)));
    assert!(granted(&cluster.told(d.0.conn)).is_some_and(|grant| grant.claim == Claim::Mode(PR)));
}

#[test]
fn a_member_that_waits_keeps_its_place_at_another_home() {
    let (mut cluster, mut a, mut b, mut c) = team(3);
    let name = &cluster.name_at(3);
    let held = cluster.locked(&mut c, name, EX);
    let stood = stood(&ask(&mut cluster, &mut b, name, PR));
    assert!(is_queued(&ask(&mut cluster, &mut a, name, PR)));
    let mut later = cluster.open(1, 7);
    assert!(is_queued(&cluster.lock(&mut later, name, EX)));
    cluster.kill(2);
    cluster.attach(&mut b.0, 1);
    b.1 = join(&mut cluster, &mut b.0);
    let request = of_group(name, PR, b.1);
    assert!(is_queued(&cluster.again(&mut b.0, stood, Op::Lock(request))));
    cluster.say(&b.0, ClientMessage::ReclaimDone);
    cluster.evict(2);
    cluster.told(b.0.conn);
    assert!(is_released(&cluster.release(&mut c, held.lock)));
    let grants = [&a, &b].map(|who| granted(&cluster.told(who.0.conn)).expect("both are granted it"));
    give_back(&mut cluster, &mut [(&mut a.0, &grants[0]), (&mut b.0, &grants[1])], &later);
}

#[test]
fn what_was_granted_to_a_member_while_nobody_listened_is_told() {
    let (mut cluster, mut a, mut b, mut c) = team(3);
    let name = &cluster.name_at(3);
    let held = cluster.locked(&mut c, name, EX);
    let stood = stood(&ask(&mut cluster, &mut b, name, PR));
    assert!(is_queued(&ask(&mut cluster, &mut a, name, PR)));
    cluster.kill(2);
    assert!(is_released(&cluster.release(&mut c, held.lock)));
    let one = granted(&cluster.told(a.0.conn)).expect("its turn");
    assert!(is_queued(&cluster.lock(&mut c, name, EX)));
    cluster.evict(2);
    cluster.attach(&mut b.0, 1);
    b.1 = join(&mut cluster, &mut b.0);
    let request = of_group(name, PR, b.1);
    let told = cluster.again(&mut b.0, stood, Op::Lock(request));
    let two = granted(&told).unwrap_or_else(|| panic!("{told:?}"));
    assert_eq!(two.token, one.token);
    cluster.say(&b.0, ClientMessage::ReclaimDone);
    give_back(&mut cluster, &mut [(&mut a.0, &one), (&mut b.0, &two)], &c);
}

fn end(cluster: &mut Cluster, client: &Client) {
    let session = client.session;
    let home = cluster.state.sessions[&session].generation;
    cluster.apply(&Command::EndSession { session, home, why: EndWhy::Expired });
    cluster.run();
}

#[test]
fn who_dies_as_the_only_user_leaves_the_value_in_doubt() {
    let (mut cluster, mut a, mut b, mut c) = team(3);
    let name = &cluster.name_at(3);
    cluster.locked(&mut c, name, NL);
    let one = use_it(&mut cluster, &mut a, name, EX);
    let two = use_it(&mut cluster, &mut b, name, EX);
    end(&mut cluster, &a.0);
    let read = value(&cluster.ask(&mut b.0, Op::ReadValue(two.lock)));
    assert!(read.is_some_and(|value| !value.invalid), "b goes on with it");
    end(&mut cluster, &b.0);
    let mut d = member(&mut cluster, 1, 8);
    let three = use_it(&mut cluster, &mut d, name, PR);
    assert!(three.token > one.token);
    assert!(value(&cluster.ask(&mut d.0, Op::ReadValue(three.lock))).is_some_and(|value| value.invalid));
}

#[test]
fn what_a_group_was_granted_is_not_claimed_without_it() {
    let (mut cluster, mut a, mut b, _) = team(3);
    let names = cluster.names_at(3, 2);
    use_it(&mut cluster, &mut a, &names[0], EX);
    let (shared, own) = (use_it(&mut cluster, &mut b, &names[0], EX), cluster.locked(&mut b.0, &names[1], EX));
    cluster.kill(2);
    cluster.evict(2);
    cluster.attach(&mut b.0, 1);
    assert_eq!(claim(&mut cluster, &b.0, &names[1], &own), None, "it was not the group's");
    assert_eq!(cluster.claim(&b.0, &names[0], &shared), None, "nor this the session's");
    assert!(cluster.claim(&b.0, &names[1], &own).is_some());
    assert!(claim(&mut cluster, &b.0, &names[0], &shared).is_some());
    assert!(cluster.audit.iter().any(|line| line.contains("no seal proves")));
}

#[test]
fn the_value_of_a_shared_lock_dies_with_its_master() {
    let (mut cluster, mut a, mut b, mut c) = team(4);
    let name = &cluster.name_at(4);
    cluster.locked(&mut c, name, NL);
    let (one, two) = (use_it(&mut cluster, &mut a, name, EX), use_it(&mut cluster, &mut b, name, EX));
    assert!(value(&cluster.ask(&mut b.0, Op::ReadValue(two.lock))).is_some_and(|value| !value.invalid));
    assert!(is_released(&write_and_leave(&mut cluster, &mut a.0, &one, b"new")));
    cluster.move_to(name, 3);
    let read = value(&cluster.ask(&mut b.0, Op::ReadValue(two.lock)));
    assert_eq!(read, Some(Value { bytes: (*b"new").into(), invalid: false }), "its master lives");
    use_it(&mut cluster, &mut a, name, EX);
    cluster.kill(3);
    cluster.evict(3);
    // What b read was the newest, but b cannot know.
    let read = value(&cluster.ask(&mut b.0, Op::ReadValue(two.lock)));
    assert_eq!(read, Some(Value { bytes: (*b"new").into(), invalid: true }));
}

#[test]
fn a_groups_waits_are_no_cycles_over_masters() {
    let (mut cluster, mut a, _, mut c) = team(3);
    let (here, there) = (&cluster.name_at(1), &cluster.name_at(2));
    use_it(&mut cluster, &mut a, here, EX);
    cluster.locked(&mut c, there, EX);
    assert!(is_queued(&cluster.lock(&mut c, here, EX)));
    cluster.told(a.0.conn);
    let bounded = LockRequest { wait: Wait::For(Span::from_secs(5)), ..of_group(there, EX, a.1) };
    assert!(is_queued(&cluster.ask(&mut a.0, Op::Lock(bounded))));
    cluster.pass(Span::from_secs(4));
    assert_eq!(cluster.deadlocks(), []);
    cluster.pass(Span::from_secs(1));
    assert_eq!(refusal(&cluster.told(a.0.conn)), Some(Refusal::Timeout));
}

#[test]
fn who_joins_in_past_a_waiter_is_told() {
    let (mut cluster, mut a, mut b, mut c) = team(3);
    let name = &cluster.name_at(3);
    use_it(&mut cluster, &mut a, name, EX);
    assert!(is_queued(&cluster.lock(&mut c, name, PR)));
    let told = ask(&mut cluster, &mut b, name, EX);
    let grant = granted(&told).expect("past who waits");
    assert_eq!(blocking(&told), Some((grant.lock, Claim::Mode(PR))), "or it would keep c waiting and not know");
}
