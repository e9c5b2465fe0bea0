//! Where slots go: pinned by an operator, after who uses them, or a whole tree of names together.

use lockstead_cluster::PlaceWhy;
use lockstead_types::{
    NodeId, Slot, SpaceId, Span,
    message::{ClientMessage, ServerMessage},
    refusal::Refusal,
    reply::Reply,
    report::Report,
    request::{ClusterOrder, LockRequest, MemberOrder, Op, Query, SlotRef},
    space::{Mastering, SpaceSpec},
};

use crate::rig::{Client, Cluster, EX, granted, is_released, refusal, request};

fn order(what: MemberOrder) -> Op<'static> {
    Op::Cluster(Box::new(ClusterOrder { what, reason: "test".into() }))
}

fn create(cluster: &mut Cluster, client: &mut Client, spec: SpaceSpec) -> SpaceId {
    let told = cluster.ask(client, Op::SpaceCreate(Box::new(spec)));
    match &told[..] {
        [ServerMessage::Reply { reply: Reply::Space(info), .. }] => info.space,
        _ => panic!("{told:?}"),
    }
}

/// A name of a lockspace whose slot is mastered by a node.
fn name_at(cluster: &Cluster, space: SpaceId, node: u16) -> (Vec<u8>, Slot) {
    let place = |name: Vec<u8>| (Slot::of(7, space, &name), name);
    let mut names = (0..).map(|n| place(format!("name-{n}").into_bytes()));
    let (slot, name) = names.find(|(slot, _)| master(cluster, *slot) == node).expect("every node masters something");
    (name, slot)
}

fn master(cluster: &Cluster, slot: Slot) -> u16 {
    cluster.state.slots[usize::from(slot.0)].master.0
}

/// Locks and releases a name so often.
fn uses(cluster: &mut Cluster, client: &mut Client, (space, name): (SpaceId, &[u8]), times: usize) {
    for _ in 0..times {
        let told = cluster.ask(client, Op::Lock(LockRequest { space, ..request(name, EX) }));
        let lock = granted(&told).unwrap_or_else(|| panic!("{told:?}")).lock;
        assert!(is_released(&cluster.release(client, lock)));
    }
}

/// A second passes, and the sessions live on.
fn second(cluster: &mut Cluster, clients: &[&Client], seq: u64) {
    cluster.pass(Span::from_secs(1));
    for client in clients {
        cluster.say(client, ClientMessage::Renew { seq });
    }
}

#[test]
fn operators_pin_by_number_and_by_name() {
    let mut cluster = Cluster::of(3);
    let mut a = cluster.open(1, 1);
    let by_name = SlotRef::Name { space: SpaceId(0), name: (*b"orders").into() };
    let told = cluster.ask(&mut a, order(MemberOrder::Pin { slot: by_name.clone(), node: NodeId(3) }));
    assert!(matches!(told[..], [ServerMessage::Reply { reply: Reply::Done, .. }]), "{told:?}");
    let slot = Slot::of(7, SpaceId(0), b"orders");
    assert_eq!(cluster.state.places[&slot].node, NodeId(3));
    assert!(
        cluster.audit.iter().any(|line| line.contains("the slot of orders in lockspace number 0 belong to node 3"))
    );
    cluster.ask(&mut a, order(MemberOrder::Unpin(SlotRef::Number(slot))));
    assert!(cluster.state.places.is_empty());
    let refused = |cluster: &mut Cluster, a: &mut Client, what| refusal(&cluster.ask(a, order(what)));
    assert_eq!(refused(&mut cluster, &mut a, MemberOrder::Unpin(by_name)), Some(Refusal::NotHeld));
    let nowhere = SlotRef::Name { space: SpaceId(9), name: (*b"orders").into() };
    assert_eq!(
        refused(&mut cluster, &mut a, MemberOrder::Pin { slot: nowhere, node: NodeId(3) }),
        Some(Refusal::NoLockspace)
    );
    cluster.ask(&mut a, order(MemberOrder::Weigh { node: NodeId(2), weight: 300 }));
    assert_eq!(cluster.state.members[&NodeId(2)].weight, 300);
}

#[test]
fn a_slot_goes_to_the_node_that_uses_it_and_stays_where_two_use_it_equally() {
    let mut cluster = Cluster::of(3);
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(2, 2));
    let affine = SpaceSpec { mastering: Mastering::Affinity, ..SpaceSpec::named("affine") };
    let space = create(&mut cluster, &mut a, affine);
    let (name, slot) = name_at(&cluster, space, 3);
    let spread = name_at(&cluster, SpaceId(0), 3);
    for seq in 1..=16 {
        uses(&mut cluster, &mut a, (space, &name), 10);
        uses(&mut cluster, &mut a, (SpaceId(0), &spread.0), 10);
        second(&mut cluster, &[&a, &b], seq);
        assert!(seq >= 9 || master(&cluster, slot) == 3, "it stays for a while: {seq}");
    }
    assert_eq!(master(&cluster, slot), 1, "its user has it");
    assert_eq!(cluster.state.places[&slot].why, PlaceWhy::Used);
    assert_eq!(master(&cluster, spread.1), 3, "a lockspace without affinity");
    // Two nodes use it equally: it stays, however long.
    let generation = cluster.state.slots[usize::from(slot.0)].generation;
    for seq in 17..=80 {
        uses(&mut cluster, &mut a, (space, &name), 10);
        uses(&mut cluster, &mut b, (space, &name), 10);
        second(&mut cluster, &[&a, &b], seq);
    }
    assert_eq!(cluster.state.slots[usize::from(slot.0)].generation, generation, "no ping-pong");
    // The other uses it alone from now on: it goes there, once.
    for seq in 81..=120 {
        uses(&mut cluster, &mut b, (space, &name), 10);
        second(&mut cluster, &[&a, &b], seq);
    }
    assert_eq!(master(&cluster, slot), 2);
    assert_eq!(cluster.state.slots[usize::from(slot.0)].generation.0, generation.0 + 1);
    // Nobody uses it: it belongs to nobody, and may be evened out.
    for seq in 121..=180 {
        second(&mut cluster, &[&a, &b], seq);
    }
    assert_eq!(cluster.state.places.len(), 0);
}

#[test]
fn a_pinned_slot_does_not_go_to_its_user() {
    let mut cluster = Cluster::of(2);
    let mut a = cluster.open(1, 1);
    let space =
        create(&mut cluster, &mut a, SpaceSpec { mastering: Mastering::Affinity, ..SpaceSpec::named("affine") });
    let (name, slot) = name_at(&cluster, space, 2);
    cluster.ask(&mut a, order(MemberOrder::Pin { slot: SlotRef::Number(slot), node: NodeId(2) }));
    for seq in 1..=30 {
        uses(&mut cluster, &mut a, (space, &name), 10);
        second(&mut cluster, &[&a], seq);
    }
    assert_eq!(master(&cluster, slot), 2);
}

#[test]
fn a_tree_of_names_has_one_master() {
    let mut cluster = Cluster::of(3);
    let mut a = cluster.open(1, 1);
    let space = create(&mut cluster, &mut a, SpaceSpec { levels: 1, ..SpaceSpec::named("trees") });
    let slot = Slot::of(7, space, b"orders");
    let names: Vec<Vec<u8>> = (0..40).map(|n| format!("orders/page:{n}").into_bytes()).collect();
    let mut locks = Vec::new();
    for name in names.iter().map(Vec::as_slice).chain([&b"orders"[..]]) {
        let told = cluster.ask(&mut a, Op::Lock(LockRequest { space, ..request(name, EX) }));
        locks.push(granted(&told).expect("free").lock);
        let told = cluster.ask(&mut a, Op::Query(Query::Resource { space, name }));
        let [ServerMessage::Reply { reply: Reply::Report(report), .. }] = &told[..] else { panic!("{told:?}") };
        let Report::Resource(Some(detail)) = &**report else { panic!("{report:?}") };
        assert_eq!((detail.slot, detail.master.0), (Some(slot), master(&cluster, slot)));
    }
    // They move together, and recover together.
    let dead = master(&cluster, slot);
    if dead != a.node {
        cluster.kill(dead);
        cluster.evict(dead);
    }
    for lock in locks {
        assert!(is_released(&cluster.release(&mut a, lock)));
    }
}
