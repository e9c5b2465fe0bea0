//! How evenly slots and names are spread, and how few move.

use lockstead_types::{NodeId, Slot, SpaceId};

use crate::support::{Group, seat};
use lockstead_cluster::{Command, Steward, StewardConfig};
use lockstead_types::Time;

#[test]
fn a_hundred_thousand_names_on_five_equal_nodes_are_a_fifth_each() {
    let group = Group::up(&[1; 5]);
    assert!(group.spread().iter().all(|slots| (819..=820).contains(slots)), "{:?}", group.spread());
    let mut names = [0_u32; 6];
    for n in 0..100_000 {
        let slot = Slot::of(group.state.seed, SpaceId(0), format!("resource-{n}").as_bytes());
        names[usize::from(group.state.master(slot).unwrap().master.0)] += 1;
    }
    assert!(names[1..].iter().all(|count| (18_000..=22_000).contains(count)), "{names:?}");
}

#[test]
fn weights_are_kept_to_a_slot() {
    assert_eq!(Group::up(&[1, 2, 5, 0]).spread(), [512, 1024, 2560, 0]);
    let mut group = Group::up(&[1, 2, 5]);
    group.evict(1);
    assert_eq!(group.spread(), [0, 1170, 2926]);
}

#[test]
fn a_node_that_joins_gets_its_share_and_nothing_else_moves() {
    let mut group = Group::up(&[1; 4]);
    let before = group.state.clone();
    group.must(&Command::Admit { seat: seat(5, 1) });
    group.start(5);
    settle(&mut group);
    assert!(group.spread().iter().all(|slots| (819..=820).contains(slots)), "{:?}", group.spread());
    let moved = Slot::all().filter(|slot| before.master(*slot) != group.state.master(*slot)).count();
    assert_eq!(moved, 819);
}

#[test]
fn a_node_that_comes_and_goes_leaves_it_even() {
    let mut group = Group::up(&[1; 5]);
    for node in [3, 1, 5, 2, 4, 4, 1] {
        group.evict(node);
        assert!(group.spread().iter().filter(|slots| **slots > 0).all(|slots| (1023..=1025).contains(slots)));
        group.start(node);
        settle(&mut group);
        assert!(group.spread().iter().all(|slots| (818..=821).contains(slots)), "{:?}", group.spread());
    }
}

#[test]
fn draining_empties_a_node() {
    let mut group = Group::up(&[1, 1, 1]);
    group.drain(1);
    settle(&mut group);
    assert_eq!(group.spread(), [0, 2048, 2048]);
    group.evict(1);
    group.must(&Command::Remove { node: NodeId(1) });
}

/// Lets a steward move slots until it has nothing more to move.
pub(crate) fn settle(group: &mut Group) {
    let mut now = Time::from_nanos(1);
    let config = StewardConfig::default();
    let mut steward = Steward::new(config, now);
    loop {
        now = now.after(config.settle);
        for (node, incarnation) in group.state.up().collect::<Vec<_>>() {
            assert!(steward.on_renewal(now, &group.state, node, incarnation));
        }
        let commands = steward.poll(now, &group.state);
        if commands.is_empty() {
            return;
        }
        for command in commands {
            let Command::Move { slots } = &command else { panic!("{command:?}") };
            assert!(slots.len() <= config.batch);
            group.must(&command);
        }
    }
}
