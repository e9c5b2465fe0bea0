//! Claims and their proofs: what no member granted nobody can claim, and what an old seal is still good for.

use lockstead_types::{
    Flags, LockId, Mode, Refusal, RequestId, Seal, Sealed, SpaceId, Token,
    message::{ClientMessage, Reclaim, ServerMessage},
    reply::{Grant, Reply},
    report::Report,
    request::{Claim, LockRequest, Op, OwnerRef, Query},
};

use crate::rig::{Client, Cluster, EX, NL, PR, claim_of, granted, is_queued, is_released, refusal, request};

fn say(cluster: &mut Cluster, client: &Client, claim: Reclaim<'_>, sealed: Option<Sealed>) -> Result<Grant, Refusal> {
    let told = cluster.say(client, ClientMessage::Reclaim { id: RequestId(1 << 63), claim, sealed });
    granted(&told).ok_or_else(|| refusal(&told).unwrap_or_else(|| panic!("an answer, not {told:?}")))
}

fn counter(cluster: &mut Cluster, client: &Client, id: u64, name: &str) -> u64 {
    let query = ClientMessage::Request { id: RequestId(id), op: Op::Query(Query::Status) };
    let told = cluster.say(client, query);
    let [ServerMessage::Reply { reply: Reply::Report(report), .. }] = &told[..] else { panic!("{told:?}") };
    let Report::Status(status) = &**report else { panic!("{report:?}") };
    status.counters.iter().find(|(n, _)| n == name).map_or(0, |(_, count)| *count)
}

#[test]
fn what_no_member_granted_is_not_given() {
    let mut cluster = Cluster::of(3);
    let name = cluster.name_at(2);
    let (mut a, mut other) = (cluster.open(3, 1), cluster.open(1, 2));
    let held = cluster.locked(&mut a, &name, PR);
    let others = cluster.locked(&mut other, &name, PR);
    // Home and master go: only what clients say is known of their locks.
    cluster.kill(3);
    cluster.kill(2);
    cluster.evict(3);
    cluster.evict(2);
    cluster.attach(&mut a, 1);
    let (claim, sealed) = claim_of(&name, &held);
    let seal = held.seal.expect("a member seals what it grants");
    let mut flipped = seal;
    flipped.0[15] ^= 0x80;
    let later = Token::new(claim.token.epoch(), claim.token.sequence() + 1).expect("in range");
    let with = |claim: Claim, seal: Seal| Some(Sealed { claim, seal });
    let forged = [
        ("without a seal", claim.clone(), None),
        ("a seal made up", claim.clone(), with(held.claim, Seal([0; 16]))),
        ("one bit another", claim.clone(), with(held.claim, flipped)),
        ("more than was granted", Reclaim { held: Claim::Mode(EX), ..claim.clone() }, sealed),
        (
            "more, and the seal said to be of it",
            Reclaim { held: Claim::Mode(EX), ..claim.clone() },
            with(Claim::Mode(EX), seal),
        ),
        ("a mode that is none", Reclaim { held: Claim::Mode(Mode(31)), ..claim.clone() }, sealed),
        ("permits for a mode", Reclaim { held: Claim::Permits { take: 1, of: 1 }, ..claim.clone() }, sealed),
        ("a later token", Reclaim { token: later, ..claim.clone() }, sealed),
        ("another name", Reclaim { name: b"another", ..claim.clone() }, sealed),
        ("another tag", Reclaim { tag: 1, ..claim.clone() }, sealed),
        ("alone", Reclaim { alone: true, ..claim.clone() }, sealed),
        ("to outlive its session", Reclaim { flags: Flags::PERSISTENT, ..claim.clone() }, sealed),
        ("another session's", claim.clone(), with(others.claim, others.seal.expect("sealed"))),
        ("another session's, word for word", claim_of(&name, &others).0, claim_of(&name, &others).1),
    ];
    let forgeries = forged.len() as u64;
    for (what, claim, sealed) in forged {
        assert_eq!(say(&mut cluster, &a, claim, sealed), Err(Refusal::Lost), "{what}");
    }
    let elsewhere = Reclaim { space: SpaceId(9), ..claim.clone() };
    assert_eq!(say(&mut cluster, &a, elsewhere, sealed), Err(Refusal::NoLockspace));
    let lines = cluster.audit.iter().filter(|line| line.contains("which no seal proves")).count();
    assert_eq!(lines, 1, "once for a session: {:?}", cluster.audit);
    // None of it is in the way of the truth.
    assert_eq!(say(&mut cluster, &a, claim, sealed).map(|g| g.token), Ok(held.token));
    cluster.say(&a, ClientMessage::ReclaimDone);
    assert_eq!(counter(&mut cluster, &a, 7, "reclaims_unproven"), forgeries);
}

#[test]
fn less_than_was_granted_may_be_claimed() {
    let mut cluster = Cluster::of(3);
    let name = cluster.name_at(1);
    let (mut a, mut b) = (cluster.open(2, 1), cluster.open(1, 2));
    let held = cluster.locked(&mut a, &name, EX);
    cluster.attach(&mut a, 3);
    let (claim, sealed) = claim_of(&name, &held);
    let weaker = say(&mut cluster, &a, Reclaim { held: Claim::Mode(PR), ..claim.clone() }, sealed).expect("less");
    assert_eq!((weaker.claim, weaker.token), (Claim::Mode(PR), held.token));
    assert!(weaker.seal.is_some_and(|seal| Some(seal) != held.seal), "the claim is sealed as it was granted");
    cluster.say(&a, ClientMessage::ReclaimDone);
    assert!(granted(&cluster.lock(&mut b, &name, PR)).is_some());
    // The next home takes the seal of the answer for what it covers, and nothing more.
    cluster.attach(&mut a, 2);
    let newest = Some(Sealed { claim: weaker.claim, seal: weaker.seal.expect("sealed") });
    assert_eq!(say(&mut cluster, &a, claim.clone(), newest), Err(Refusal::Lost));
    let again = say(&mut cluster, &a, Reclaim { held: weaker.claim, ..claim }, newest);
    assert_eq!(again.map(|g| g.claim), Ok(weaker.claim));
}

#[test]
fn every_kind_of_grant_is_sealed() {
    let mut cluster = Cluster::of(3);
    let (here, there) = (cluster.name_at(1), cluster.name_at(2));
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(3, 2));
    let many = vec![
        LockRequest { owner: OwnerRef::Alone, flags: Flags::PERSISTENT, tag: 3, ..request(&here, PR) },
        LockRequest { claim: Claim::Permits { take: 2, of: 5 }, ..request(&there, NL) },
    ];
    let told = cluster.ask(&mut a, Op::LockMany(many));
    let [ServerMessage::Reply { reply: Reply::GrantedMany(grants), .. }] = &told[..] else { panic!("{told:?}") };
    let (alone, permits) = (grants[0].clone(), grants[1].clone());
    let name = cluster.name_at(3);
    let first = cluster.locked(&mut a, &name, PR);
    let second = cluster.locked(&mut b, &name, PR);
    assert!(is_queued(&cluster.convert(&mut a, first.lock, EX)));
    cluster.release(&mut b, second.lock);
    let converted = granted(&cluster.told(a.conn)).expect("after a wait");
    let down = granted(&cluster.convert(&mut a, first.lock, PR)).expect("down");
    assert_eq!(down.token, converted.token);
    assert_ne!(down.seal, converted.seal);
    cluster.kill(1);
    cluster.evict(1);
    cluster.attach(&mut a, 2);
    let (claim, sealed) = claim_of(&here, &alone);
    let claim = Reclaim { alone: true, flags: Flags::PERSISTENT, tag: 3, ..claim };
    assert_eq!(say(&mut cluster, &a, claim, sealed).map(|g| g.claim), Ok(alone.claim));
    for (name, grant) in [(&there, &permits), (&name, &down)] {
        let (claim, sealed) = claim_of(name, grant);
        assert_eq!(say(&mut cluster, &a, claim, sealed).map(|g| g.claim), Ok(grant.claim));
    }
}

/// A seal stays right after its lock is released. It gives nobody a lock that another has, or a token that is newer.
#[test]
fn a_seal_of_a_released_lock_gives_nothing_that_others_have() {
    let mut cluster = Cluster::of(4);
    let name = cluster.name_at(2);
    let (mut a, mut b) = (cluster.open(3, 1), cluster.open(1, 2));
    let held = cluster.locked(&mut a, &name, EX);
    assert!(is_released(&cluster.release(&mut a, held.lock)));
    let (claim, sealed) = claim_of(&name, &held);
    // Its master lives and knows.
    cluster.attach(&mut a, 1);
    assert_eq!(say(&mut cluster, &a, claim.clone(), sealed), Err(Refusal::Lost));
    cluster.say(&a, ClientMessage::ReclaimDone);
    // Another has it since: of the two the newer grant is in force.
    let newer = cluster.locked(&mut b, &name, EX);
    cluster.attach(&mut a, 3);
    cluster.kill(2);
    cluster.evict(2);
    assert_eq!(say(&mut cluster, &a, claim.clone(), sealed), Err(Refusal::Lost));
    cluster.say(&a, ClientMessage::ReclaimDone);
    // Nobody has it, and its master is gone: the liar gets what anybody could have had, with the token of before.
    assert!(is_released(&cluster.release(&mut b, newer.lock)));
    let master = cluster.state.slots[usize::from(lockstead_types::Slot::of(7, SpaceId(0), &name).0)].master.0;
    cluster.attach(&mut a, if master == 1 { 4 } else { 1 });
    cluster.kill(master);
    cluster.evict(master);
    let again = say(&mut cluster, &a, claim, sealed).expect("free");
    assert!(again.token == held.token && again.token < newer.token, "what is guarded has seen a newer one");
}

#[test]
fn a_seal_of_more_than_was_kept_loses_to_those_who_came_beside_it() {
    let mut cluster = Cluster::of(3);
    let name = cluster.name_at(2);
    let (mut a, mut b) = (cluster.open(3, 1), cluster.open(1, 2));
    let held = cluster.locked(&mut a, &name, EX);
    let down = granted(&cluster.convert(&mut a, held.lock, PR)).expect("down");
    let beside = cluster.locked(&mut b, &name, PR);
    assert!(beside.token > down.token);
    cluster.kill(3);
    cluster.evict(3);
    cluster.kill(2);
    cluster.evict(2);
    cluster.attach(&mut a, 1);
    let (claim, sealed) = claim_of(&name, &held);
    assert_eq!(say(&mut cluster, &a, claim, sealed), Err(Refusal::Lost));
    assert_eq!(cluster.told(b.conn), [], "its lock is its own");
}

#[test]
fn one_lock_is_claimed_once() {
    let mut cluster = Cluster::of(3);
    let name = cluster.name_at(2);
    let (mut a, mut b) = (cluster.open(3, 1), cluster.open(1, 2));
    let permits =
        LockRequest { claim: Claim::Permits { take: 2, of: 4 }, owner: OwnerRef::Alone, ..request(&name, NL) };
    let held = granted(&cluster.ask(&mut a, Op::Lock(permits))).expect("granted");
    cluster.kill(3);
    cluster.evict(3);
    cluster.kill(2);
    cluster.evict(2);
    cluster.attach(&mut a, 1);
    let (claim, sealed) = claim_of(&name, &held);
    let claim = |lock| Reclaim { lock: LockId(lock), alone: true, ..claim.clone() };
    let first = say(&mut cluster, &a, claim(1), sealed).expect("its own");
    assert_eq!(say(&mut cluster, &a, claim(2), sealed), Err(Refusal::Lost), "the same lock under another number");
    assert_eq!(say(&mut cluster, &a, claim(1), sealed), Ok(first), "said again");
    cluster.say(&a, ClientMessage::ReclaimDone);
    let rest = LockRequest { wait: lockstead_types::request::Wait::Never, ..permits };
    assert!(granted(&cluster.ask(&mut b, Op::Lock(rest))).is_some());
    assert!(granted(&cluster.ask(&mut b, Op::Lock(rest))).is_none());
}
