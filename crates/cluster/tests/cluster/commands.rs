//! Each command: what it changes, what it refuses, and that repeating it does no harm.

use lockstead_cluster::{Change, Command, EndWhy, MemberState, Refused, State};
use lockstead_types::{
    NodeId, SessionId, Slot, SpaceId, Span, Token,
    peer::{HomeGeneration, Incarnation},
    space::SpaceSpec,
};

use crate::support::{Group, open, seat, start};

const TTL: Span = Span::from_secs(10);

#[test]
fn before_it_is_formed_a_cluster_takes_nothing_else() {
    let mut group = Group::default();
    assert_eq!(group.try_apply(&start(1, 0, 1)), Err(Refused::Formed));
    let form = |seats| Command::Form { seed: 0, key: [0; 32], seats, spaces: Vec::new() };
    assert_eq!(group.try_apply(&form(vec![seat(1, 1), seat(1, 1)])), Err(Refused::Exists));
    assert_eq!(group.try_apply(&form(vec![seat(1, 0), seat(2, 0)])), Err(Refused::Last));
    assert_eq!(group.must(&form(vec![seat(1, 1)])), [Change::Epoch { moved: Vec::new() }]);
    assert_eq!(group.try_apply(&form(vec![seat(1, 1)])), Err(Refused::Formed));
    assert_eq!((group.state.version, group.state.epoch), (5, 1));
}

#[test]
fn the_first_start_takes_the_seats_own_slots() {
    let mut group = Group::formed(&[1, 1, 1]);
    for node in [2, 1, 3] {
        group.start(node);
        assert_eq!(group.spread(), [1366, 1365, 1365]);
        assert_eq!(group.incarnation(node), Incarnation(1));
        assert!(group.state.slots_of(NodeId(node)).iter().all(|slot| {
            group.state.master(slot).is_some_and(|now| now.incarnation == Incarnation(1) && now.generation.0 == 2)
        }));
    }
}

#[test]
fn a_repeated_start_is_one_and_does_not_raise_the_dead() {
    let mut group = Group::formed(&[1, 1]);
    group.must(&start(1, 0, 77));
    assert_eq!(group.must(&start(1, 0, 77)), []);
    assert_eq!(group.incarnation(1), Incarnation(1));
    group.start(2);
    group.evict(1);
    assert_eq!(group.must(&start(1, 0, 77)), []);
    assert_eq!(group.state.members[&NodeId(1)].state, MemberState::Down);
    group.must(&start(1, 77, 78));
    assert!(group.state.is_up(NodeId(1), Incarnation(2)));
}

#[test]
fn a_node_whose_data_is_another_is_refused_until_it_is_admitted() {
    let mut group = Group::up(&[1, 1]);
    let wiped = Command::Start {
        node: NodeId(2),
        identity: 5,
        nonce: 9,
        after: 0,
        peer_address: String::new(),
        client_address: String::new(),
    };
    assert_eq!(group.try_apply(&wiped), Err(Refused::Outdated));
    let again = Command::Admit { seat: lockstead_cluster::Seat { identity: 5, ..seat(2, 1) } };
    assert_eq!(group.try_apply(&again), Err(Refused::Exists));
    group.evict(2);
    group.must(&again);
    assert_eq!(group.must(&again), []);
    group.must(&wiped);
    assert_eq!(group.incarnation(2), Incarnation(2));
    assert_eq!(group.try_apply(&start(2, 9, 10)), Err(Refused::Outdated));
}

#[test]
fn data_from_before_the_newest_start_is_refused() {
    let mut group = Group::formed(&[1, 1]);
    group.must(&start(1, 0, 5));
    group.must(&start(1, 5, 6));
    // A copy that was made in the first start knows nothing of the second, one from before it of neither.
    assert_eq!(group.try_apply(&start(1, 5, 7)), Err(Refused::Outdated));
    assert_eq!(group.try_apply(&start(1, 0, 8)), Err(Refused::Outdated));
    group.evict(1);
    assert_eq!(group.try_apply(&start(1, 5, 9)), Err(Refused::Outdated));
    // Let in again as it was it is still the same data.
    group.must(&Command::Admit { seat: lockstead_cluster::Seat { weight: 2, ..seat(1, 1) } });
    assert_eq!(group.try_apply(&start(1, 5, 9)), Err(Refused::Outdated));
    group.must(&start(1, 6, 10));
    assert_eq!(group.incarnation(1), Incarnation(3));
}

#[test]
fn an_evicted_masters_slots_go_to_the_others_and_the_last_keeps_its_own() {
    let mut group = Group::up(&[1, 1, 1]);
    group.evict(3);
    assert_eq!(group.spread(), [2048, 2048, 0]);
    let late = Command::Evict { node: NodeId(3), incarnation: Incarnation(1) };
    assert_eq!(group.try_apply(&late), Err(Refused::Outdated));
    group.evict(1);
    assert_eq!(group.spread(), [0, 4096, 0]);
    group.evict(2);
    assert_eq!(group.spread(), [0, 4096, 0]);
    group.start(3);
    assert_eq!(group.spread(), [0, 0, 4096]);
}

#[test]
fn a_node_that_starts_again_inherits_from_itself() {
    let mut group = Group::up(&[1, 1, 1]);
    let before = group.state.slots_of(NodeId(2));
    group.start(2);
    assert_eq!(group.state.slots_of(NodeId(2)), before);
    assert!(before.iter().all(|slot| group.state.master(slot).is_some_and(|now| now.incarnation == Incarnation(2))));
}

#[test]
fn a_drained_member_keeps_its_slots_until_they_are_moved() {
    let mut group = Group::up(&[1, 1]);
    group.drain(2);
    assert_eq!(group.spread(), [2048, 2048]);
    assert!(group.state.is_up(NodeId(2), Incarnation(1)));
    let last = Command::Drain { node: NodeId(1), incarnation: Incarnation(1) };
    assert_eq!(group.try_apply(&last), Err(Refused::Last));
    // Its neighbour dies: better a master on its way out than none.
    group.evict(1);
    assert_eq!(group.spread(), [0, 4096]);
    assert_eq!(group.try_apply(&Command::Remove { node: NodeId(2) }), Err(Refused::InUse));
}

#[test]
fn a_removed_number_goes_on_counting_when_it_comes_back() {
    let mut group = Group::up(&[1, 1]);
    group.start(2);
    group.evict(2);
    group.must(&Command::Remove { node: NodeId(2) });
    assert_eq!(group.try_apply(&Command::Remove { node: NodeId(2) }), Err(Refused::Unknown));
    group.must(&Command::Admit { seat: seat(2, 1) });
    group.start(2);
    assert_eq!(group.incarnation(2), Incarnation(3));
}

#[test]
fn slots_move_all_or_none_and_only_as_they_were_seen() {
    let mut group = Group::up(&[1, 1, 0]);
    let mine: Vec<Slot> = group.state.slots_of(NodeId(1)).iter().take(2).collect();
    let generation = |group: &Group, slot: Slot| group.state.master(slot).map(|now| now.generation).unwrap();
    let to = |group: &Group, node| Command::Move {
        slots: mine.iter().map(|slot| (*slot, generation(group, *slot), NodeId(node))).collect(),
    };
    let command = to(&group, 2);
    let moved = group.must(&command);
    let was = |slot| (slot, NodeId(1), Incarnation(1));
    assert_eq!(moved, [Change::Epoch { moved: vec![was(mine[0]), was(mine[1])] }]);
    assert_eq!(group.try_apply(&command), Err(Refused::Outdated));
    let witness = to(&group, 3);
    assert_eq!(group.try_apply(&witness), Err(Refused::Invalid));
    let there = to(&group, 2);
    assert_eq!(group.try_apply(&there), Err(Refused::Invalid));
    group.evict(1);
    let dead = to(&group, 1);
    assert_eq!(group.try_apply(&dead), Err(Refused::Outdated));
    assert_eq!(group.try_apply(&Command::Move { slots: Vec::new() }), Err(Refused::Invalid));
}

#[test]
fn a_session_opens_comes_elsewhere_and_ends_once() {
    let mut group = Group::up(&[1, 1]);
    let session = SessionId(5);
    let first = open(5, 1, Incarnation(1), TTL);
    assert_eq!(group.must(&first), [Change::SessionOpened { session }]);
    assert_eq!(group.must(&first), []);
    assert_eq!(group.try_apply(&open(5, 2, Incarnation(1), TTL)), Err(Refused::Exists));
    assert_eq!(group.state.ttl_max, TTL);

    let HomeGeneration(opened) = group.state.sessions[&session].generation;
    let come = |from, incarnation| Command::RehomeSession {
        session,
        from: HomeGeneration(opened + from),
        home: NodeId(2),
        incarnation: Incarnation(incarnation),
    };
    assert_eq!(group.try_apply(&come(0, 2)), Err(Refused::Outdated));
    assert_eq!(group.must(&come(0, 1)), [Change::SessionRehomed { session, from: NodeId(1) }]);
    assert_eq!(group.must(&come(0, 1)), []);

    let end = |home| Command::EndSession { session, home: HomeGeneration(opened + home), why: EndWhy::Goodbye };
    assert_eq!(group.try_apply(&end(0)), Err(Refused::Outdated));
    let generation = HomeGeneration(opened + 1);
    let ended = Change::SessionEnded { session, home: NodeId(2), generation, why: EndWhy::Goodbye };
    assert_eq!(group.must(&end(1)), [ended]);
    assert_eq!(group.try_apply(&end(1)), Err(Refused::Unknown));
}

#[test]
fn who_never_heard_that_its_open_failed_ends_nothing_that_was_opened_elsewhere() {
    let mut group = Group::up(&[1, 1]);
    let session = SessionId(5);
    // Node 1 takes an open in that gets lost; the client goes on to node 2; node 1 ends what it has, as it believes.
    group.must(&open(5, 2, Incarnation(1), TTL));
    let end = |home| Command::EndSession { session, home, why: EndWhy::Expired };
    assert_eq!(group.try_apply(&end(HomeGeneration::default())), Err(Refused::Outdated));
    // The same with an id that comes again: no generation of it does.
    let before = group.state.sessions[&session].generation;
    group.must(&end(before));
    group.must(&open(5, 2, Incarnation(1), TTL));
    assert_eq!(group.try_apply(&end(before)), Err(Refused::Outdated));
}

#[test]
fn sessions_of_a_dead_home_are_homeless_until_they_come_elsewhere() {
    let mut group = Group::up(&[1, 1]);
    group.open(1, 1, TTL);
    group.open(2, 2, TTL);
    group.start(1);
    assert_eq!(group.state.homeless().map(|(session, _)| session.0).collect::<Vec<_>>(), [1]);
    let session = SessionId(1);
    group.must(&Command::RehomeSession {
        session,
        from: group.state.sessions[&session].generation,
        home: NodeId(1),
        incarnation: Incarnation(2),
    });
    assert_eq!(group.state.homeless().count(), 0);
}

#[test]
fn a_local_session_stays_on_its_machine() {
    let mut group = Group::up(&[1, 1]);
    let session = SessionId(1);
    group.must(&Command::OpenSession {
        session,
        home: NodeId(1),
        incarnation: Incarnation(1),
        ttl: TTL,
        principal: String::new(),
        local: true,
    });
    let from = group.state.sessions[&session].generation;
    let come = Command::RehomeSession { session, from, home: NodeId(2), incarnation: Incarnation(1) };
    assert_eq!(group.try_apply(&come), Err(Refused::Invalid));
}

#[test]
fn lockspaces_are_numbered_once() {
    let mut group = Group::up(&[1]);
    let create = |name, nonce| Command::CreateSpace { spec: SpaceSpec::named(name), nonce };
    assert_eq!(group.state.spaces.keys().map(|space| space.0).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(group.must(&create("x", 1)), [Change::SpaceCreated { space: SpaceId(2) }]);
    assert_eq!(group.must(&create("x", 1)), []);
    assert_eq!(group.try_apply(&create("x", 2)), Err(Refused::Exists));
    assert_eq!(group.try_apply(&create("", 2)), Err(Refused::Invalid));
    let drop = |space, force| Command::DropSpace { space: SpaceId(space), force };
    assert_eq!(group.must(&drop(2, false)), [Change::SpaceClosing { space: SpaceId(2) }]);
    assert_eq!(group.must(&drop(2, false)), []);
    assert_eq!(group.must(&drop(2, true)), [Change::SpaceDropped { space: SpaceId(2) }]);
    assert_eq!(group.try_apply(&drop(2, true)), Err(Refused::Unknown));
    assert_eq!(group.try_apply(&drop(0, true)), Err(Refused::Invalid));
    assert_eq!(group.must(&create("x", 3)), [Change::SpaceCreated { space: SpaceId(3) }]);
}

#[test]
fn the_epoch_ends_where_tokens_do() {
    let mut group = Group::up(&[1]);
    group.must(&Command::RaiseEpoch { by: 1 << 16 });
    let epoch = group.state.epoch;
    assert_eq!(group.try_apply(&Command::RaiseEpoch { by: Token::EPOCH_MAX }), Err(Refused::Full));
    group.must(&Command::RaiseEpoch { by: Token::EPOCH_MAX - epoch });
    assert_eq!(group.try_apply(&start(1, 1, 99)), Err(Refused::Full));
    assert_eq!(group.state, State { version: group.state.version, ..group.state.clone() });
}
