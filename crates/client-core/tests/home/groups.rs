//! What a session uses of its group at another home: a claim brings back one use, however many there were.

use crate::common::{EX, Rig, Sent, grant, token};
use lockstead_types::{
    Flags, GroupId, LockId, NodeId, Refusal,
    reply::Reply,
    request::{Op, OwnerRef, ReleaseRequest},
};

/// A session that uses a lock of its group twice.
fn twice() -> (Rig, LockId) {
    let mut rig = Rig::open(NodeId(1), 5);
    let id = rig.ask(&Op::GroupAttach { name: b"team" });
    rig.reply(id, Reply::Group(GroupId(7)));
    let Some(Reply::Group(group)) = rig.answers.pop() else { panic!("attached") };
    let first = rig.lock_for(b"a", EX, token(5, 1), OwnerRef::Group(group));
    let id = rig.ask_lock_for(b"a", EX, OwnerRef::Group(group));
    rig.reply(id, Reply::Granted(grant(LockId(1), EX, token(5, 1))));
    assert!(matches!(&rig.granted()[..], [Reply::Granted(grant)] if grant.lock == first));
    rig.sent.clear();
    (rig, first)
}

/// When it lets go of one use.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum When {
    Cut,
    Joining,
    Claiming,
}

#[test]
fn a_use_released_before_the_claim_is_answered_leaves_the_other() {
    for (when, one_way) in
        [When::Cut, When::Joining, When::Claiming].into_iter().flat_map(|when| [(when, true), (when, false)])
    {
        let (mut rig, lock) = twice();
        rig.cut();
        let let_go = |rig: &mut Rig, now| {
            if when == now {
                rig.release(lock, one_way);
            }
        };
        let_go(&mut rig, When::Cut);
        rig.attach(NodeId(2), 5, 1, true);
        let Some(Sent::Attach { id }) = rig.sent.pop_front() else { panic!("the group is joined first") };
        let_go(&mut rig, When::Joining);
        rig.reply(id, Reply::Group(GroupId(3)));
        let ids = rig.claim_ids();
        assert_eq!(ids.len(), 1, "{when:?}, one way {one_way}: a use is left");
        let_go(&mut rig, When::Claiming);
        rig.reply(ids[0], Reply::Granted(grant(LockId(10), EX, token(5, 1))));
        let said: Vec<Sent> = rig.sent.drain(..).collect();
        assert_eq!(said, [Sent::Done], "{when:?}, one way {one_way}: what the claim brought back is still used");
        assert_eq!(rig.answers, if one_way { &[][..] } else { &[Reply::Released][..] });

        rig.release(lock, true);
        assert_eq!(rig.sent.pop_front(), Some(Sent::Release { lock: LockId(10) }));
    }
}

#[test]
fn a_one_way_release_that_is_refused_for_its_value_is_said_again_without_it() {
    for uses in [1, 2] {
        let (mut rig, lock) = twice();
        if uses == 1 {
            rig.release(lock, true);
        }
        rig.sent.clear();
        let release = ReleaseRequest { lock, flags: Flags::VALBLK, value: Some(b"v") };
        let id = rig.ask(&Op::Release { release, one_way: true });
        rig.reply(id, Reply::Refused(Refusal::Busy));
        let said: Vec<Sent> = rig.sent.drain(..).collect();
        assert_eq!(said, [Sent::Release { lock: LockId(1) }, Sent::Release { lock: LockId(1) }], "uses: {uses}");
        rig.cut();
        rig.attach(NodeId(2), 5, 1, true);
        let Some(Sent::Attach { id }) = rig.sent.pop_front() else { panic!("the group is joined first") };
        rig.reply(id, Reply::Group(GroupId(3)));
        assert_eq!(rig.claim_ids().len(), uses - 1, "what is left is claimed, and nothing else");
    }
}
