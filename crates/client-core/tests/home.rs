//! A session comes to another node: it claims what it holds there, asks again what had no answer, and believes nothing that
//! the former home still says ([HOME-1] and on).

#[path = "common/mod.rs"]
mod common;
#[path = "home/groups.rs"]
mod groups;
#[path = "home/paths.rs"]
mod paths;
#[path = "home/transactions.rs"]
mod transactions;

use common::{EX, PR, Rig, Sent, TTL, grant, token};
use lockstead_client_core::{Ending, Input, Lease, Output};
use lockstead_types::{
    LockId, NodeId, Refusal, RequestId, Span,
    message::{Attached, ClientMessage, Rejection, ServerMessage},
    reply::{Notice, Queued, Reply, Revoked},
    request::{Claim, Stood},
};

/// The claims that were sent, `ReclaimDone` included, by name of the resource.
fn claimed(rig: &mut Rig) -> Vec<Sent> {
    rig.sent.drain(..).filter(|sent| matches!(sent, Sent::Claim { .. } | Sent::Done)).collect()
}

#[test]
fn another_home_is_told_everything() {
    let mut rig = Rig::open(NodeId(1), 5);
    let held = rig.lock(b"held", EX, token(5, 9));
    let asked = rig.ask_lock(b"asked", PR);
    rig.sent.clear();

    // The epoch is the same: only the node is another one.
    rig.cut();
    rig.attach(NodeId(2), 5, 1, true);
    assert_eq!(rig.session.lease(rig.time()), Lease::Unsure);
    let [Sent::Claim { id, name, token: said, .. }] = &claimed(&mut rig)[..] else { panic!("one claim, and no more") };
    assert_eq!((&name[..], *said), (&b"held"[..], token(5, 9)), "a token of the epoch that is");
    rig.reply(*id, Reply::Granted(grant(LockId(77), EX, token(5, 9))));

    assert_eq!(rig.session.lease(rig.time()), Lease::Held);
    let sent: Vec<Sent> = rig.sent.drain(..).collect();
    let [Sent::Done, Sent::Lock { id, name }] = &sent[..] else { panic!("{sent:?}") };
    assert_eq!(&name[..], b"asked");
    assert!(*id > asked, "numbers go on rising");
    rig.reply(*id, Reply::Granted(grant(LockId(78), PR, token(5, 20))));
    assert_eq!(rig.granted().len(), 1, "answered once");

    // The ids are the new home's.
    rig.tell(Input::Message(ServerMessage::Notice(Notice::Blocking { lock: LockId(77), claim: Claim::Mode(PR) })));
    assert_eq!(rig.notices.pop(), Some(Notice::Blocking { lock: held, claim: Claim::Mode(PR) }));
    rig.release(held, true);
    assert_eq!(rig.sent.pop_front(), Some(Sent::Release { lock: LockId(77) }));
}

#[test]
fn a_home_that_dies_during_the_claims_is_forgotten() {
    let mut rig = Rig::open(NodeId(1), 5);
    let (a, b) = (rig.lock(b"a", EX, token(5, 1)), rig.lock(b"b", EX, token(5, 2)));
    rig.sent.clear();
    rig.cut();
    let before = rig.session.deadline();
    rig.attach(NodeId(2), 5, 1, true);
    let ids = rig.claim_ids();
    rig.reply(ids[0], Reply::Granted(grant(LockId(10), EX, token(5, 1))));
    rig.cut();
    assert_eq!(rig.session.deadline(), before, "claims that are not all answered renew nothing");

    rig.attach(NodeId(3), 6, 2, true);
    let ids = rig.claim_ids();
    assert_eq!(ids.len(), 2, "all of them, also what the second one had answered");
    rig.reply(ids[1], Reply::Granted(grant(LockId(30), EX, token(5, 2))));
    rig.reply(ids[0], Reply::Refused(Refusal::Lost));
    assert_eq!((&rig.lost[..], rig.session.lease(rig.time())), (&[(a, Revoked::Superseded)][..], Lease::Held));
    // What had the same number at the second home is another lock, or none.
    let revoked = |lock| Input::Message(ServerMessage::Notice(Notice::Revoked { lock, why: Revoked::Forced }));
    rig.tell(revoked(LockId(10)));
    assert_eq!(rig.lost.len(), 1);
    rig.tell(revoked(LockId(30)));
    assert_eq!(rig.lost[1..], [(b, Revoked::Forced)]);
}

#[test]
fn a_home_that_has_not_heard_is_not_believed() {
    let mut rig = Rig::open(NodeId(1), 5);
    rig.lock(b"a", EX, token(5, 1));
    rig.cut();
    rig.attach(NodeId(1), 5, 0, false);
    rig.cut();
    rig.attach(NodeId(2), 5, 1, true);
    let ids = rig.claim_ids();
    rig.reply(ids[0], Reply::Granted(grant(LockId(20), EX, token(5, 1))));
    rig.sent.clear();
    let deadline = rig.session.deadline();

    // The connection breaks, and the first node still believes to be the home, with or without asking for claims.
    for (home, reclaim) in [(0, false), (0, true), (2, false)] {
        rig.cut();
        rig.attach(NodeId(1), 5, home, reclaim);
        assert!(rig.hung_up(), "home {home}");
        assert_eq!((rig.session.deadline(), rig.session.lease(rig.time())), (deadline, Lease::Unsure));
        assert!(rig.sent.is_empty(), "{:?}", rig.sent);
    }
    // Once it has heard it may be the home again: under a new number.
    rig.back_off();
    rig.attach(NodeId(1), 5, 3, true);
    let ids = rig.claim_ids();
    rig.reply(ids[0], Reply::Granted(grant(LockId(7), EX, token(5, 1))));
    assert_eq!(rig.session.lease(rig.time()), Lease::Held);
    assert!(rig.lost.is_empty());
}

#[test]
fn a_claim_answered_twice_is_answered_once() {
    let mut rig = Rig::open(NodeId(1), 5);
    rig.lock(b"a", EX, token(4, 1));
    rig.lock(b"b", EX, token(5, 2));
    rig.cut();
    rig.sent.clear();
    rig.attach(NodeId(2), 5, 1, true);
    let ids = rig.claim_ids();
    let deadline = rig.session.deadline();
    rig.reply(ids[0], Reply::Granted(grant(LockId(10), EX, token(4, 1))));
    rig.reply(ids[0], Reply::Refused(Refusal::Lost));
    assert!(rig.lost.is_empty(), "the first answer counts");
    assert!(!rig.sent.contains(&Sent::Done), "the other claim has no answer");
    assert_eq!((rig.session.lease(rig.time()), rig.session.deadline()), (Lease::Unsure, deadline));
    rig.reply(ids[1], Reply::Granted(grant(LockId(11), EX, token(5, 2))));
    assert_eq!(rig.session.lease(rig.time()), Lease::Held);
    rig.reply(ids[1], Reply::Granted(grant(LockId(12), EX, token(5, 2))));
    rig.tell(Input::Message(ServerMessage::Notice(Notice::Blocking { lock: LockId(12), claim: Claim::Mode(PR) })));
    assert!(rig.notices.is_empty(), "the second id is no lock's");
}

#[test]
fn what_was_released_is_not_claimed() {
    let mut rig = Rig::open(NodeId(1), 5);
    let (one_way, answered) = (rig.lock(b"a", EX, token(5, 1)), rig.lock(b"b", EX, token(5, 2)));
    rig.release(one_way, true);
    rig.release(answered, false);
    assert_eq!(rig.sent.iter().filter(|s| matches!(s, Sent::Release { .. })).count(), 2);
    rig.cut();
    rig.sent.clear();
    rig.attach(NodeId(2), 5, 1, true);
    assert_eq!(rig.sent.drain(..).collect::<Vec<_>>(), [Sent::Done]);
    assert_eq!(rig.answers.pop(), Some(Reply::Released));
    assert!(rig.lost.is_empty());
}

#[test]
fn a_release_between_claim_and_answer_is_carried_out_where_it_was_claimed() {
    for (home, claims) in [(1, 1), (2, 0)] {
        let mut rig = Rig::open(NodeId(1), 5);
        let held = rig.lock(b"a", EX, token(5, 1));
        rig.cut();
        rig.sent.clear();
        rig.attach(NodeId(2), 5, 1, true);
        assert_eq!(rig.claim_ids().len(), 1);
        rig.release(held, true);
        rig.cut();
        // The same home has the claim, and must be told; another one does not know of the lock.
        rig.attach(NodeId(2), 5, home, true);
        let ids = rig.claim_ids();
        assert_eq!(ids.len(), claims, "home {home}");
        for id in ids {
            rig.reply(id, Reply::Granted(grant(LockId(10), EX, token(5, 1))));
            assert_eq!(rig.sent.pop_back(), Some(Sent::Release { lock: LockId(10) }));
        }
        assert_eq!(rig.session.lease(rig.time()), Lease::Held);
    }
}

#[test]
fn a_release_that_was_lost_with_the_end_of_the_claims_is_said_again() {
    let mut rig = Rig::open(NodeId(1), 5);
    let held = rig.lock(b"a", EX, token(5, 1));
    rig.cut();
    rig.attach(NodeId(1), 6, 6, true);
    let ids = rig.claim_ids();
    rig.reply(ids[0], Reply::Granted(grant(LockId(10), EX, token(5, 1))));
    rig.release(held, true);
    // Neither `ReclaimDone` nor the release arrived: the node has the lock, and waits for claims.
    rig.cut();
    rig.sent.clear();
    rig.attach(NodeId(1), 6, 6, true);
    assert_eq!(rig.sent.drain(..).collect::<Vec<_>>(), [Sent::Done, Sent::Release { lock: LockId(10) }]);
}

#[test]
fn a_write_that_was_never_sent_is_made_at_the_next_home() {
    let claim = |there: bool| {
        let mut rig = Rig::open(NodeId(1), 5);
        let held = rig.lock(b"a", EX, token(5, 1));
        rig.cut();
        rig.sent.clear();
        rig.release_writing(held, b"v");
        // The first of these homes dies before it answers.
        rig.attach(NodeId(2), 5, 1, true);
        assert_eq!(rig.claim_ids().len(), 1);
        rig.cut();
        rig.attach(NodeId(3), 5, 2, true);
        let ids = rig.claim_ids();
        assert_eq!((ids.len(), &rig.answers[..]), (1, &[][..]));
        let granted = Reply::Granted(grant(LockId(10), EX, token(5, 1)));
        rig.reply(ids[0], if there { granted } else { Reply::Refused(Refusal::Lost) });
        rig
    };
    let mut rig = claim(true);
    assert_eq!(rig.sent.drain(..).collect::<Vec<_>>(), [Sent::Done, Sent::Release { lock: LockId(10) }]);
    assert_eq!(rig.answers, [], "it has been sent");
    let rig = claim(false);
    assert_eq!(rig.sent, [Sent::Done]);
    assert_eq!(rig.answers, [Reply::Refused(Refusal::Lost)], "it was not written, and never will be");
    assert_eq!(rig.lost, [], "it was given up already");
}

#[test]
fn a_write_that_was_sent_is_answered_when_the_masters_have_heard() {
    let mut rig = Rig::open(NodeId(1), 5);
    let held = rig.lock(b"a", EX, token(5, 1));
    rig.release_writing(held, b"v");
    rig.cut();
    rig.sent.clear();
    for home in [1, 2] {
        rig.attach(NodeId(2), 5, home, true);
        let sent: Vec<Sent> = rig.sent.drain(..).collect();
        let [Sent::Done, Sent::Sync { id }] = sent[..] else { panic!("{sent:?}") };
        assert_eq!(rig.answers, [], "its master may still tell the value of before");
        if home == 2 {
            rig.reply(id, Reply::Done);
        } else {
            rig.cut();
        }
    }
    assert_eq!(rig.answers, [Reply::Released]);
}

#[test]
fn what_was_sent_again_in_part_was_sent() {
    let mut rig = Rig::open(NodeId(1), 5);
    let held = rig.lock(b"a", EX, token(5, 1));
    rig.ask_lock(b"b", EX);
    rig.release_writing(held, b"v");
    rig.cut();
    rig.greet(NodeId(1), 5);
    let attached = Attached { ttl: TTL, seen: RequestId(1), reclaim: false, home: 0, groups: Vec::new() };
    rig.session.handle(rig.time(), Input::Message(ServerMessage::Attached(attached)));
    // The first of the two is sent again; the other one was sent before, and may have had its effect.
    while !matches!(rig.session.poll_output(), Some(Output::Send(ClientMessage::Request { .. }))) {}
    rig.session.handle(rig.time(), Input::Disconnected);
    rig.pump();
    rig.back_off();
    rig.sent.clear();
    rig.attach(NodeId(2), 5, 1, true);
    assert!(matches!(rig.sent.make_contiguous(), [Sent::Done, Sent::Lock { .. }, Sent::Sync { .. }]), "{:?}", rig.sent);
}

#[test]
fn nothing_is_heard_of_a_connection_that_was_given_up() {
    let mut rig = Rig::open(NodeId(1), 5);
    rig.lock(b"a", EX, token(5, 1));
    let asked = rig.ask_lock(b"b", EX);
    rig.cut_without_waiting();
    let late = [
        ServerMessage::Reply { id: asked, reply: Reply::Granted(grant(LockId(2), EX, token(5, 2))) },
        ServerMessage::Notice(Notice::Revoked { lock: LockId(1), why: Revoked::Forced }),
        ServerMessage::Renewed { seq: 1 },
        ServerMessage::Ended,
        ServerMessage::Rejected { why: Rejection::Superseded },
    ];
    let deadline = rig.session.deadline();
    for message in late {
        rig.tell(Input::Message(message.clone()));
        assert!(rig.granted().is_empty() && rig.lost.is_empty() && rig.notices.is_empty(), "{message:?}");
        assert_eq!((rig.session.deadline(), rig.session.ending()), (deadline, None));
    }
    // Nor before the new connection has the session: what comes too early is no node's of ours.
    rig.back_off();
    rig.greet(NodeId(2), 5);
    rig.tell(Input::Message(ServerMessage::Notice(Notice::Revoked { lock: LockId(1), why: Revoked::Forced })));
    assert!(rig.hung_up() && rig.lost.is_empty());
}

#[test]
fn without_authority_anywhere_it_is_unsure_then_lost() {
    let mut rig = Rig::open(NodeId(1), 5);
    rig.lock(b"a", EX, token(5, 1));
    let deadline = rig.session.deadline().expect("open");
    rig.tell(Input::Message(ServerMessage::Rejected { why: Rejection::NoAuthority }));
    assert!(rig.hung_up());
    assert_eq!(rig.session.lease(rig.time()), Lease::Unsure);
    for node in [2, 3, 1] {
        rig.back_off();
        rig.greet(NodeId(node), 5);
        rig.tell(Input::Message(ServerMessage::Rejected { why: Rejection::NoAuthority }));
        assert_eq!((rig.session.lease(rig.time()), rig.session.deadline()), (Lease::Unsure, Some(deadline)));
    }
    rig.now = deadline.as_nanos() / 1_000_000 + 1;
    rig.tell(Input::Tick);
    assert_eq!((rig.session.lease(rig.time()), rig.session.ending()), (Lease::Lost, Some(Ending::Deadline)));
}

#[test]
fn an_attach_of_our_own_that_comes_late_is_no_other_process() {
    let mut rig = Rig::open(NodeId(1), 5);
    rig.lock(b"a", EX, token(5, 1));
    rig.cut();
    rig.greet(NodeId(1), 5);
    // The answer is not waited for any longer; the node comes to that attach after the one that follows.
    rig.pass(TTL.scaled(1, 3).as_nanos() / 1_000_000 + 1);
    assert!(rig.hung_up());
    rig.back_off();
    rig.attach(NodeId(1), 5, 0, false);
    assert_eq!(rig.session.lease(rig.time()), Lease::Held);
    let superseded = || Input::Message(ServerMessage::Rejected { why: Rejection::Superseded });
    rig.tell(superseded());
    assert_eq!(rig.session.ending(), None);
    rig.back_off();
    rig.attach(NodeId(1), 5, 0, false);
    rig.tell(superseded());
    assert_eq!(rig.session.ending(), Some(Ending::Ended), "once is explained by it, twice is not");
}

#[test]
fn an_attach_that_was_turned_away_may_come_late_too() {
    let mut rig = Rig::open(NodeId(1), 5);
    rig.lock(b"a", EX, token(5, 1));
    rig.cut();
    // That node has asked the others for the session before it lost its authority.
    rig.greet(NodeId(2), 5);
    rig.tell(Input::Message(ServerMessage::Rejected { why: Rejection::NoAuthority }));
    rig.back_off();
    rig.attach(NodeId(1), 5, 0, false);
    rig.tell(Input::Message(ServerMessage::Rejected { why: Rejection::Superseded }));
    assert_eq!(rig.session.ending(), None);
}

#[test]
fn to_another_node_at_will() {
    let mut rig = Rig::open(NodeId(1), 5);
    rig.lock(b"a", EX, token(5, 1));
    rig.sent.clear();
    assert!(rig.session.move_on(rig.time()));
    rig.pump();
    assert!(rig.hung_up() && rig.connecting, "at once");
    rig.attach(NodeId(2), 5, 1, true);
    let ids = rig.claim_ids();
    rig.reply(ids[0], Reply::Granted(grant(LockId(20), EX, token(5, 1))));
    assert_eq!(rig.session.lease(rig.time()), Lease::Held);
    rig.session.goodbye(rig.time());
    assert!(!rig.session.move_on(rig.time()), "it leaves");
}

#[test]
fn a_node_that_says_nothing_is_left_soon() {
    let mut rig = Rig::open(NodeId(1), 5);
    // A renewal is sent after a third of the lease, and waited for a sixth of it.
    rig.pass(TTL.scaled(1, 3).as_nanos() / 1_000_000 + 1);
    assert!(!rig.hung_up());
    rig.pass(TTL.scaled(1, 6).as_nanos() / 1_000_000 + 1);
    assert!(rig.hung_up());
    rig.back_off();
    rig.tell(Input::Connected);
    rig.pass(999);
    assert!(!rig.hung_up(), "the second attempt may take twice as long as the first");
    rig.pass(2);
    assert!(rig.hung_up());
}

#[test]
fn after_its_goodbye_a_session_holds_nothing_and_is_granted_nothing() {
    let mut rig = Rig::open(NodeId(1), 5);
    rig.lock(b"a", EX, token(5, 1));
    let id = rig.ask_lock(b"b", EX);
    rig.granted();
    rig.session.goodbye(rig.time());
    rig.pump();
    assert_eq!(rig.session.lease(rig.time()), Lease::Lost, "the node gives back whatever it has");
    // It was granted before the goodbye arrived.
    rig.reply(id, Reply::Granted(grant(LockId(21), EX, token(5, 2))));
    rig.tell(Input::Message(ServerMessage::Bye));
    assert_eq!(rig.granted(), []);
    assert_eq!(rig.session.ending(), Some(Ending::Closed));
}

#[test]
fn what_waits_is_said_again_before_the_claims_end() {
    let mut rig = Rig::open(NodeId(1), 5);
    rig.lock(b"held", EX, token(5, 9));
    let [asked, waits] = [b"asked", b"waits"].map(|name| rig.ask_lock(name, PR));
    rig.reply(waits, Reply::Queued(Queued { lock: LockId(50), ticket: 31 }));
    assert_eq!(rig.answers.len(), 1);
    rig.sent.clear();
    rig.pass(20);
    rig.cut();
    let away = rig.now;
    rig.attach(NodeId(2), 5, 1, true);
    let claim = rig.claim_ids()[0];
    rig.reply(claim, Reply::Granted(grant(LockId(77), EX, token(5, 9))));
    let sent: Vec<Sent> = rig.sent.drain(..).collect();
    let [Sent::Again { id, name, stood }, Sent::Done, Sent::Lock { id: other, .. }] = &sent[..] else {
        panic!("{sent:?}")
    };
    assert_eq!((&name[..], *stood), (&b"waits"[..], Stood { ticket: 31, waited: Span::from_millis(away) }));
    assert!(asked < waits && waits < *id && id < other, "numbers go on rising");
    rig.reply(*id, Reply::Queued(Queued { lock: LockId(60), ticket: 31 }));

    // The connection breaks, and the home has heard neither: it is one request there, whatever was heard before.
    rig.cut();
    rig.attach(NodeId(2), 5, 1, true);
    let claim = rig.claim_ids()[0];
    rig.reply(claim, Reply::Granted(grant(LockId(77), EX, token(5, 9))));
    let sent: Vec<Sent> = rig.sent.drain(..).collect();
    assert!(
        matches!(&sent[..], [Sent::Again { id: same, .. }, Sent::Done, Sent::Lock { .. }] if same == id),
        "{sent:?}"
    );
    // At a third it is another, which is told the newest place.
    rig.reply(*id, Reply::Queued(Queued { lock: LockId(60), ticket: 40 }));
    rig.cut();
    rig.attach(NodeId(3), 5, 2, true);
    let claim = rig.claim_ids()[0];
    rig.reply(claim, Reply::Granted(grant(LockId(78), EX, token(5, 9))));
    let sent: Vec<Sent> = rig.sent.drain(..).collect();
    let [Sent::Again { id: third, stood, .. }, Sent::Done, Sent::Lock { .. }] = &sent[..] else { panic!("{sent:?}") };
    assert!(third > id && stood.ticket == 40);
    rig.reply(*third, Reply::Granted(grant(LockId(79), PR, token(5, 20))));
    assert_eq!((rig.granted().len(), rig.answers.len()), (1, 1), "told once that it waits, granted once");
}
