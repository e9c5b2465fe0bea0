//! The transaction of a session that comes to another home: said before the locks of it are claimed, which are those that are not to be
//! released ([TXN-9], [TXN-10]).

use crate::common::{EX, PR, Rig, Sent, grant, token};
use lockstead_types::{
    Age, LockId, NodeId, Refusal,
    reply::{Notice, Reply},
    request::{Op, OwnerRef},
    transaction::{Part, Resume, Savepoint, TransactionStage},
};

/// Names with what they are of the transaction.
type Claimed = Vec<(Vec<u8>, Option<Part>)>;

const AGE: Age = Age { scn: 5, tie: 6 };

/// In a transaction with three locks, the last of them a statement's, beside a lock of the session's own.
fn begun() -> (Rig, [LockId; 3]) {
    let mut rig = Rig::open(NodeId(1), 5);
    rig.lock(b"own", PR, token(5, 1));
    let id = rig.ask(&Op::Begin { age: None });
    rig.reply(id, Reply::Begun(AGE));
    let first = rig.lock_for(b"a", EX, token(5, 2), OwnerRef::Transaction);
    let second = rig.lock_for(b"b", EX, token(5, 3), OwnerRef::Transaction);
    let third = rig.lock_for(b"c", EX, token(5, 4), OwnerRef::Statement);
    rig.sent.clear();
    rig.answers.clear();
    (rig, [first, second, third])
}

/// It comes to a second home, which answers what it says of its transaction; what was said, and then what is claimed.
fn moved(rig: &mut Rig, answer: Reply) -> (Op<'static>, Claimed) {
    rig.cut();
    rig.sent.clear();
    rig.attach(NodeId(2), 5, 1, true);
    let sent: Vec<Sent> = rig.sent.drain(..).collect();
    let [Sent::Txn { id, op }] = &sent[..] else {
        panic!("the transaction, and nothing before it is answered: {sent:?}")
    };
    rig.reply(*id, answer);
    let claims: Vec<Sent> = rig.sent.iter().filter(|sent| matches!(sent, Sent::Claim { .. })).cloned().collect();
    let mut told = Vec::new();
    for claim in claims {
        let Sent::Claim { id, name, token, part } = claim else { continue };
        told.push((name, part));
        rig.reply(id, Reply::Granted(grant(LockId(90 + told.len() as u64), EX, token)));
    }
    told.sort_by(|(a, _), (b, _)| a.cmp(b));
    (op.clone(), told)
}

fn part(number: u64, statement: bool) -> Option<Part> {
    Some(Part { number, statement })
}

#[test]
fn it_is_said_before_its_locks_are_claimed() {
    let (mut rig, _) = begun();
    let (said, claims) = moved(&mut rig, Reply::Begun(AGE));
    assert_eq!(said, Op::Resume(Resume { age: AGE, granted: 3, stage: TransactionStage::Growing }));
    let expected = [(&b"a"[..], part(0, false)), (b"b", part(1, false)), (b"c", part(2, true)), (b"own", None)];
    assert_eq!(claims.iter().map(|(name, part)| (&name[..], *part)).collect::<Vec<_>>(), expected);
    // What is granted there has the next number.
    rig.lock_for(b"d", EX, token(5, 9), OwnerRef::Transaction);
    rig.cut();
    rig.sent.clear();
    rig.attach(NodeId(3), 5, 2, true);
    let Some(Sent::Txn { id, op: said }) = rig.sent.pop_front() else { panic!("the transaction") };
    rig.reply(id, Reply::Begun(AGE));
    assert_eq!(said, Op::Resume(Resume { age: AGE, granted: 4, stage: TransactionStage::Growing }));
    assert_eq!(rig.claim_ids().len(), 5);
}

#[test]
fn what_a_commit_was_to_release_is_not_claimed() {
    let (mut rig, _) = begun();
    rig.ask(&Op::Commit);
    let (_, claims) = moved(&mut rig, Reply::Begun(AGE));
    assert_eq!(claims, [(b"own".to_vec(), None)]);
    // It is asked again there, after the claims.
    let sent: Vec<Sent> = rig.sent.drain(..).collect();
    let Some(Sent::Txn { id, op: Op::Commit }) = sent.last() else { panic!("{sent:?}") };
    assert!(sent.contains(&Sent::Done));
    rig.reply(*id, Reply::Done);
    assert_eq!(rig.answers, [Reply::Done]);
    assert_eq!(rig.session.transaction(), None);
}

#[test]
fn a_commit_that_is_refused_leaves_all_as_it_was() {
    let (mut rig, [first, ..]) = begun();
    let id = rig.ask(&Op::Commit);
    rig.reply(id, Reply::Refused(Refusal::Busy));
    let (_, claims) = moved(&mut rig, Reply::Begun(AGE));
    assert_eq!(claims.len(), 4);
    assert_eq!(rig.session.transaction(), Some(AGE));
    rig.release(first, false);
    assert!(matches!(rig.sent.back(), Some(Sent::Release { .. })), "it is known under its id");
}

#[test]
fn a_rollback_to_a_savepoint_gives_up_what_came_after_it() {
    let (mut rig, _) = begun();
    rig.ask(&Op::Rollback { to: Some(Savepoint(1)) });
    let (_, claims) = moved(&mut rig, Reply::Begun(AGE));
    assert_eq!(claims, [(b"a".to_vec(), part(0, false)), (b"own".to_vec(), None)]);
}

#[test]
fn one_that_cannot_go_on_is_aborted() {
    let (mut rig, _) = begun();
    moved(&mut rig, Reply::Refused(Refusal::Busy));
    assert_eq!(rig.notices, [Notice::Aborted]);
    rig.sent.clear();
    rig.cut();
    rig.attach(NodeId(3), 5, 2, true);
    let Some(Sent::Txn { op, .. }) = rig.sent.pop_front() else { panic!("the transaction") };
    assert_eq!(op, Op::Resume(Resume { age: AGE, granted: 3, stage: TransactionStage::Aborted }));
}
