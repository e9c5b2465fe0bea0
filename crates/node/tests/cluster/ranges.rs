//! Locks of parts of a resource in a cluster: no way of a lock from node to node makes it wider or narrower.

use lockstead_cluster::Command;
use lockstead_types::{
    NodeId, RequestId, Slot, SpaceId,
    message::{ClientMessage, Reclaim, ServerMessage},
    reply::{Grant, Reply},
    report::Report,
    request::{Claim, LockRequest, Op, OwnerRef, Query, Stood, Wait},
    space::SpaceSpec,
};

use crate::rig::*;

const PARTS: [(&str, lockstead_types::Mode); 4] =
    [("[10,20)", EX), ("(20,30]", PR), ("{=[40,50)&dept=sales}", EX), ("[15]", PR)];

struct Story {
    cluster: Cluster,
    space: SpaceId,
    /// Its slot is mastered by the second node.
    rows: String,
    holder: Client,
    held: Vec<(String, Grant)>,
    waiter: Client,
    /// What it waits for, and where it stood.
    wait: (String, Stood),
}

/// One has four parts, one of them within another; another waits for what overlaps two of them.
fn story(home: u16) -> Story {
    let mut cluster = Cluster::of(3);
    let (mut holder, mut waiter) = (cluster.open(home, 1), cluster.open(3, 2));
    let spec = SpaceSpec { extents: true, ..SpaceSpec::named("parts") };
    let told = cluster.ask(&mut holder, Op::SpaceCreate(Box::new(spec)));
    let [ServerMessage::Reply { reply: Reply::Space(info), .. }] = &told[..] else { panic!("{told:?}") };
    let space = info.space;
    let mut names = (0u32..).map(|n| format!("rows-{n}"));
    let rows = names.find(|name| cluster.master_of(space, name.as_bytes()) == 2).expect("every node masters something");
    let mut held = Vec::new();
    for (part, mode) in PARTS {
        let name = format!("{rows}{part}");
        let told = cluster.ask(&mut holder, Op::Lock(LockRequest { space, ..request(name.as_bytes(), mode) }));
        held.push((name, granted(&told).unwrap_or_else(|| panic!("{told:?}"))));
    }
    let name = format!("{rows}[18,25)");
    let told = cluster.ask(&mut waiter, Op::Lock(LockRequest { space, ..request(name.as_bytes(), EX) }));
    let wait = (name, stood(&told));
    Story { cluster, space, rows, holder, held, waiter, wait }
}

impl Story {
    /// Each lock as its master shows it.
    fn shown(&mut self) -> (u16, Vec<String>) {
        let query = Query::Resource { space: self.space, name: self.rows.as_bytes() };
        let told = self.cluster.ask(&mut self.waiter, Op::Query(query));
        let [ServerMessage::Reply { reply: Reply::Report(report), .. }] = &told[..] else { panic!("{told:?}") };
        let Report::Resource(Some(detail)) = &**report else { panic!("{report:?}") };
        let rows = detail.granted.iter().chain(&detail.converting).chain(&detail.waiting);
        let mut rows: Vec<String> = rows.map(|row| format!("{} {:?} {:?}", row.extent, row.held, row.wanted)).collect();
        rows.sort_unstable();
        (detail.master.0, rows)
    }

    fn try_now(&mut self, part: &str, mode: lockstead_types::Mode) -> bool {
        let name = format!("{}{part}", self.rows);
        let wait = Wait::Never;
        let asked = LockRequest { space: self.space, wait, owner: OwnerRef::Alone, ..request(name.as_bytes(), mode) };
        granted(&self.cluster.ask(&mut self.waiter, Op::Lock(asked))).is_some()
    }

    /// What was held ends where it ended, to the key, and the one that waits gets it when it is released.
    fn prove_it_is_as_it_was(mut self, locks: &[lockstead_types::LockId]) {
        let expected = ["(20,30]", "[10,20)", "[15]", "[18,25)", "{=[40,50)&dept=sales}"];
        let (_, shown) = self.shown();
        let parts: Vec<&str> = shown.iter().map(|row| row.split(' ').next().unwrap_or_default()).collect();
        assert_eq!(parts, expected, "{shown:?}");
        for (part, mode, free) in [
            ("[09]", EX, true),
            ("[10]", PR, false),
            ("[19]", PR, false),
            ("(30,40)", EX, true),
            ("[30]", EX, false),
            ("[30]", PR, true),
            ("{=45&dept=sales}", PR, false),
            ("{=45&dept=tools}", EX, true),
            ("[45]", PR, false),
            ("[50]", EX, true),
        ] {
            assert_eq!(self.try_now(part, mode), free, "{part}");
        }
        let (first, second) = (locks[0], locks[1]);
        assert!(is_released(&self.cluster.release_as(&self.holder, 500, first)));
        assert_eq!(self.cluster.told(self.waiter.conn), [], "it waits for the other too");
        assert!(is_released(&self.cluster.release_as(&self.holder, 501, second)));
        assert!(granted(&self.cluster.told(self.waiter.conn)).is_some());
    }

    fn ids(&self) -> Vec<lockstead_types::LockId> {
        self.held.iter().map(|(_, grant)| grant.lock).collect()
    }

    /// The holder comes to another home and claims all it has.
    fn come_to(&mut self, node: u16) -> Vec<lockstead_types::LockId> {
        self.cluster.attach(&mut self.holder, node);
        let mut ids = Vec::new();
        for (n, (name, grant)) in self.held.iter().enumerate() {
            let (claim, sealed) = claim_of(name.as_bytes(), grant);
            let claim = Reclaim { space: self.space, ..claim };
            let id = RequestId(1 << 63 | n as u64);
            let told = self.cluster.say(&self.holder, ClientMessage::Reclaim { id, claim, sealed });
            ids.push(granted(&told).unwrap_or_else(|| panic!("{name}: {told:?}")).lock);
        }
        self.cluster.say(&self.holder, ClientMessage::ReclaimDone);
        ids
    }
}

#[test]
fn ranges_outlive_their_master() {
    let mut story = story(1);
    let (master, before) = story.shown();
    assert_eq!(master, 2);
    story.cluster.kill(2);
    story.cluster.evict(2);
    let (master, after) = story.shown();
    assert_ne!(master, 2);
    assert_eq!(after, before);
    let ids = story.ids();
    story.prove_it_is_as_it_was(&ids);
}

#[test]
fn ranges_move_with_their_slot() {
    let mut story = story(1);
    let (_, before) = story.shown();
    let slot = Slot::of(7, story.space, story.rows.as_bytes());
    let generation = story.cluster.state.slots[usize::from(slot.0)].generation;
    story.cluster.apply(&Command::Move { slots: vec![(slot, generation, NodeId(3))] });
    story.cluster.run();
    assert_eq!(story.shown(), (3, before));
    let ids = story.ids();
    story.prove_it_is_as_it_was(&ids);
}

#[test]
fn ranges_are_claimed_at_another_home() {
    let mut story = story(2);
    // Home and master in one: only the client knows.
    story.cluster.kill(2);
    story.cluster.evict(2);
    let ids = story.come_to(1);
    // Under new numbers at the new home.
    for (known, id) in story.held.iter_mut().zip(&ids) {
        known.1.lock = *id;
    }
    story.prove_it_is_as_it_was(&ids);
}

#[test]
fn a_part_that_is_not_claimed_is_free_and_one_made_up_is_lost() {
    let mut story = story(2);
    story.cluster.kill(2);
    story.cluster.evict(2);
    story.cluster.attach(&mut story.holder, 1);
    let (name, grant) = &story.held[0];
    // The seal is of the part that was granted: none wider can be claimed with it.
    let wider = name.replace("[10,20)", "[10,90)");
    for (n, claimed) in [wider.as_str(), name].into_iter().enumerate() {
        let (claim, sealed) = claim_of(claimed.as_bytes(), grant);
        let claim = Reclaim { space: story.space, ..claim };
        let told = story
            .cluster
            .say(&story.holder, ClientMessage::Reclaim { id: RequestId(1 << 63 | n as u64), claim, sealed });
        assert_eq!(granted(&told).is_some(), n == 1, "{claimed}: {told:?}");
    }
    story.cluster.say(&story.holder, ClientMessage::ReclaimDone);
    let (_, shown) = story.shown();
    assert_eq!(shown.len(), 2, "{shown:?}");
    assert!(!story.try_now("[10,15)", PR) && story.try_now("[26,60)", EX));
}

#[test]
fn a_wait_for_a_part_is_said_again() {
    let mut story = story(1);
    let mut later = story.cluster.open(1, 3);
    let last = format!("{}[19]", story.rows);
    let asked = LockRequest { space: story.space, ..request(last.as_bytes(), EX) };
    assert!(is_queued(&story.cluster.ask(&mut later, Op::Lock(asked))));
    // The home of who waited first dies.
    story.cluster.kill(3);
    story.cluster.attach(&mut story.waiter, 1);
    let (name, stood) = story.wait.clone();
    let asked = LockRequest { space: story.space, ..request(name.as_bytes(), EX) };
    assert!(is_queued(&story.cluster.again(&mut story.waiter, stood, Op::Lock(asked))));
    story.cluster.say(&story.waiter, ClientMessage::ReclaimDone);
    let ids = story.ids();
    for lock in &ids[..2] {
        assert!(is_released(&story.cluster.release(&mut story.holder, *lock)));
    }
    assert!(granted(&story.cluster.told(story.waiter.conn)).is_some(), "it stands where it stood");
    assert_eq!(story.cluster.told(later.conn), [], "and the other behind it");
}

#[test]
fn members_of_a_group_share_a_part() {
    let mut story = story(1);
    let attach = |cluster: &mut Cluster, client: &mut Client| {
        let told = cluster.ask(client, Op::GroupAttach { name: b"team" });
        match told[..] {
            [ServerMessage::Reply { reply: Reply::Group(group), .. }] => group,
            _ => panic!("not attached: {told:?}"),
        }
    };
    let (mut a, mut b) = (story.cluster.open(1, 10), story.cluster.open(3, 11));
    let (in_a, in_b) = (attach(&mut story.cluster, &mut a), attach(&mut story.cluster, &mut b));
    let name = format!("{}[70,80)", story.rows);
    let of = |group| LockRequest { space: story.space, owner: OwnerRef::Group(group), ..request(name.as_bytes(), EX) };
    let first = granted(&story.cluster.ask(&mut a, Op::Lock(of(in_a)))).expect("free");
    let second = granted(&story.cluster.ask(&mut b, Op::Lock(of(in_b)))).expect("shared");
    assert_eq!((first.token, first.claim), (second.token, Claim::Mode(EX)));
    story.cluster.kill(2);
    story.cluster.evict(2);
    assert!(!story.try_now("[75]", PR) && story.try_now("[80,90)", EX) && story.try_now("[60,70)", EX));
    assert!(is_released(&story.cluster.release(&mut a, first.lock)));
    assert!(!story.try_now("[75]", PR), "the other uses it still");
    assert!(is_released(&story.cluster.release(&mut b, second.lock)));
    assert!(story.try_now("[75]", PR));
}

#[test]
fn a_transaction_releases_its_parts_at_all_masters() {
    let mut cluster = Cluster::of(3);
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(2, 2));
    let spec = SpaceSpec { extents: true, ..SpaceSpec::named("parts") };
    let told = cluster.ask(&mut a, Op::SpaceCreate(Box::new(spec)));
    let [ServerMessage::Reply { reply: Reply::Space(info), .. }] = &told[..] else { panic!("{told:?}") };
    let space = info.space;
    cluster.ask(&mut a, Op::Begin { age: None });
    let names: Vec<String> = (0..6).map(|n| format!("t{n}[{n}0,{n}9]")).collect();
    for name in &names {
        let own = LockRequest { space, owner: OwnerRef::Transaction, ..request(name.as_bytes(), EX) };
        assert!(granted(&cluster.ask(&mut a, Op::Lock(own))).is_some(), "{name}");
        assert!(is_queued(&cluster.ask(&mut b, Op::Lock(LockRequest { space, ..request(name.as_bytes(), PR) }))));
    }
    cluster.ask(&mut a, Op::Commit);
    let told = cluster.told(b.conn);
    let got = told.iter().filter(|m| matches!(m, ServerMessage::Reply { reply: Reply::Granted(_), .. })).count();
    assert_eq!(got, names.len(), "{told:?}");
}
