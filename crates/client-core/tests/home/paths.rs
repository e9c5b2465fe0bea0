//! Paths of hierarchies at a client: what it claims at another home once many locks have become one ([ESC-1]).

use crate::common::{EX, Rig, Sent, grant, token};
use lockstead_types::{
    Age, LockId, Mode, NodeId, SpaceId,
    reply::{Grant, PathGrant, Reply},
    request::{Claim, LockRequest, Op, OwnerRef, Wait},
};

const CW: Mode = Mode(2);

fn path(name: &[u8], mode: Mode) -> Op<'_> {
    Op::LockPath(LockRequest {
        space: SpaceId(0),
        name,
        claim: Claim::Mode(mode),
        wait: Wait::Forever,
        flags: lockstead_types::Flags::NONE,
        owner: OwnerRef::Transaction,
        tag: 0,
        priority: 0,
    })
}

fn take(rig: &mut Rig, name: &[u8], grants: Vec<Grant>, escalated: bool) -> PathGrant {
    let id = rig.ask(&path(name, EX));
    rig.reply(id, Reply::GrantedPath(PathGrant { grants, escalated }));
    match rig.answers.pop() {
        Some(Reply::GrantedPath(path)) => path,
        other => panic!("{other:?}"),
    }
}

/// What it claims at its next home, by name.
fn claimed(rig: &mut Rig) -> Vec<Vec<u8>> {
    rig.cut();
    rig.sent.clear();
    rig.attach(NodeId(2), 5, 1, true);
    let sent: Vec<Sent> = rig.sent.drain(..).collect();
    let [Sent::Txn { id, .. }] = &sent[..] else { panic!("{sent:?}") };
    rig.reply(*id, Reply::Begun(Age { scn: 5, tie: 6 }));
    let claims = rig.sent.iter();
    let mut names: Vec<Vec<u8>> =
        claims.filter_map(|sent| if let Sent::Claim { name, .. } = sent { Some(name.clone()) } else { None }).collect();
    names.sort();
    names
}

fn begun() -> Rig {
    let mut rig = Rig::open(NodeId(1), 5);
    let id = rig.ask(&Op::Begin { age: None });
    rig.reply(id, Reply::Begun(Age { scn: 5, tie: 6 }));
    rig.answers.clear();
    rig
}

fn above() -> Grant {
    grant(LockId(10), CW, token(5, 1))
}

#[test]
fn what_comes_with_a_path_is_claimed() {
    let mut rig = begun();
    take(&mut rig, b"t/r1", vec![above(), grant(LockId(11), EX, token(5, 2))], false);
    take(&mut rig, b"t/r2", vec![above(), grant(LockId(12), EX, token(5, 3))], false);
    assert_eq!(claimed(&mut rig), [&b"t"[..], b"t/r1", b"t/r2"]);
}

#[test]
fn a_client_takes_it_in() {
    let mut rig = begun();
    let first = take(&mut rig, b"t/r1", vec![above(), grant(LockId(11), EX, token(5, 2))], false);
    take(&mut rig, b"t/r2", vec![above(), grant(LockId(12), EX, token(5, 3))], false);
    take(&mut rig, b"tt", vec![grant(LockId(13), EX, token(5, 4))], false);
    let taken = take(&mut rig, b"t/r3", vec![grant(LockId(10), EX, token(5, 5))], true);
    assert_eq!((taken.grants.len(), taken.escalated), (1, true));
    // Who still has a guard of a row lets go of it, and nobody is told.
    rig.sent.clear();
    rig.release(first.grants[1].lock, true);
    assert!(rig.sent.is_empty());
    assert_eq!(claimed(&mut rig), [&b"t"[..], b"tt"]);
}
