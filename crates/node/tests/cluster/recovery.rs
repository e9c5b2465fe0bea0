//! What stays when nodes die, come back, or are without authority.

use lockstead_types::{
    NodeId, Span,
    message::{ClientMessage, Rejection, ServerMessage},
    reply::Reply,
    report::Report,
    request::{Op, Query},
};

use crate::rig::{Client, Cluster, EX, PR, granted, is_queued, is_released};

#[test]
fn a_master_dies_and_nobody_loses_anything() {
    let mut cluster = Cluster::of(3);
    let name = cluster.name_at(2);
    let (mut a, mut b, mut c) = (cluster.open(1, 1), cluster.open(3, 2), cluster.open(3, 3));
    let held = cluster.locked(&mut a, &name, EX);
    assert!(is_queued(&cluster.lock(&mut b, &name, PR)));
    assert!(is_queued(&cluster.lock(&mut c, &name, EX)));
    cluster.told(a.conn);
    cluster.kill(2);
    cluster.evict(2);
    assert_eq!(cluster.told(b.conn), [], "waiters wait on");
    assert!(is_released(&cluster.release(&mut a, held.lock)));
    let second = granted(&cluster.told(b.conn)).expect("the first that waited");
    assert!(second.token > held.token);
    assert!(is_released(&cluster.release(&mut b, second.lock)));
    assert!(granted(&cluster.told(c.conn)).is_some_and(|g| g.token > second.token));
}

#[test]
fn inherited_slots_wait_for_the_sessions_of_the_dead_home() {
    let mut cluster = Cluster::of(3);
    let name = cluster.name_at(2);
    let (mut a, mut b) = (cluster.open(2, 1), cluster.open(3, 2));
    let held = cluster.locked(&mut a, &name, EX);
    cluster.kill(2);
    cluster.evict(2);
    // Home and master died together: only the client knows.
    assert!(is_queued(&cluster.lock(&mut b, &name, EX)));
    let told = cluster.attach(&mut a, 1);
    let home = cluster.state.sessions[&a.session].generation.0;
    assert!(matches!(&told[..], [ServerMessage::Attached(a)] if a.reclaim && a.home == home), "{told:?}");
    let again = cluster.claim(&a, &name, &held).expect("its own lock");
    cluster.say(&a, ClientMessage::ReclaimDone);
    assert_eq!(cluster.told(b.conn), []);
    let told = cluster.release_as(&a, 7, again);
    assert!(is_released(&told), "{told:?}");
    assert!(granted(&cluster.told(b.conn)).is_some_and(|g| g.token > held.token));
}

#[test]
fn what_a_session_does_not_claim_at_its_new_home_is_released() {
    let mut cluster = Cluster::of(3);
    let name = cluster.name_at(3);
    let (mut a, mut b) = (cluster.open(2, 1), cluster.open(1, 2));
    cluster.locked(&mut a, &name, EX);
    assert!(is_queued(&cluster.lock(&mut b, &name, EX)));
    cluster.kill(2);
    cluster.evict(2);
    assert_eq!(cluster.told(b.conn), []);
    cluster.attach(&mut a, 1);
    cluster.say(&a, ClientMessage::ReclaimDone);
    assert!(granted(&cluster.told(b.conn)).is_some());
}

#[test]
fn a_node_that_starts_anew_knows_nothing_and_its_slots_wait() {
    let mut cluster = Cluster::of(3);
    let name = cluster.name_at(2);
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(3, 2));
    let held = cluster.locked(&mut a, &name, EX);
    cluster.kill(2);
    cluster.start(2);
    assert!(is_queued(&cluster.lock(&mut b, &name, PR)));
    assert!(is_released(&cluster.release(&mut a, held.lock)));
    assert!(granted(&cluster.told(b.conn)).is_some_and(|g| g.token > held.token));
}

#[test]
fn all_nodes_die_and_holders_come_back() {
    let mut cluster = Cluster::of(2);
    let name = cluster.name_at(1);
    let (mut a, mut b) = (cluster.open(1, 1), cluster.open(2, 2));
    let held = cluster.locked(&mut a, &name, EX);
    cluster.kill(1);
    cluster.kill(2);
    cluster.start(2);
    cluster.start(1);
    cluster.attach(&mut b, 2);
    cluster.say(&b, ClientMessage::ReclaimDone);
    assert!(is_queued(&cluster.lock(&mut b, &name, EX)));
    cluster.attach(&mut a, 1);
    assert!(cluster.claim(&a, &name, &held).is_some());
    cluster.say(&a, ClientMessage::ReclaimDone);
    assert_eq!(cluster.told(b.conn), []);
}

#[test]
fn without_authority_nothing_is_granted_and_clients_are_turned_away() {
    let mut cluster = Cluster::of(2);
    let name = cluster.name_at(1);
    let (mut a, mut b) = (cluster.open(2, 1), cluster.open(1, 2));
    let held = cluster.locked(&mut a, &name, EX);
    assert!(is_queued(&cluster.lock(&mut b, &name, EX)));
    cluster.authorise_for(2, Span::from_secs(3_000_000));
    cluster.pass(Span::from_secs(1));
    cluster.now = cluster.now.after(Span::from_secs(1_000_000));
    cluster.handle(1, lockstead_node::Input::Tick);
    cluster.run();
    let told = cluster.told(b.conn);
    assert!(told.contains(&ServerMessage::Rejected { why: Rejection::NoAuthority }), "{told:?}");
    cluster.told(a.conn);
    assert_eq!(cluster.release(&mut a, held.lock), [], "the master does not answer");
    cluster.authorise(1);
    cluster.run();
    let told = cluster.told(a.conn);
    assert!(told.iter().any(|m| matches!(m, ServerMessage::Reply { reply: Reply::Released, .. })), "{told:?}");
}

/// Who looks while slots are being taken over hears that the picture is not whole, whichever node is asked.
#[test]
fn a_look_at_the_waits_says_how_many_slots_are_being_taken_over() {
    let mut cluster = Cluster::of(3);
    let mut a = cluster.open(1, 1);
    let mut b = cluster.open(3, 2);
    let name = cluster.name_at(3);
    cluster.locked(&mut b, &name, EX);
    assert!(is_queued(&cluster.lock(&mut a, &name, EX)));
    let waits = |cluster: &mut Cluster, client: &mut Client| {
        let told = cluster.ask(client, Op::Query(Query::Waits));
        let mut reports = told.iter().filter_map(|message| match message {
            ServerMessage::Reply { reply: Reply::Report(report), .. } => Some(&**report),
            _ => None,
        });
        match reports.next_back() {
            Some(Report::Waits(waits)) => (waits.edges.len(), waits.taking_over),
            _ => panic!("{told:?}"),
        }
    };
    assert_eq!(waits(&mut cluster, &mut a), (1, 0));
    let slots = cluster.state.slots.iter().filter(|entry| entry.master == NodeId(3)).count();
    // Its session may come back, and is waited for.
    cluster.kill(3);
    cluster.evict(3);
    assert_eq!(waits(&mut cluster, &mut a), (0, slots as u32));
    cluster.attach(&mut b, 2);
    cluster.say(&b, ClientMessage::ReclaimDone);
    cluster.pass(Span::from_millis(1));
    assert_eq!(waits(&mut cluster, &mut a).1, 0);
}
