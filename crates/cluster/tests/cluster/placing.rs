//! Slots that belong to one member, and shares that change.

use lockstead_cluster::{Command, Kept, Refused, Steward, StewardConfig};
use lockstead_types::{NodeId, Slot, SpaceId, Span, Time, peer::SlotGeneration, space::SpaceSpec};

use crate::{
    spread::settle,
    support::{Group, seat},
};

fn master(group: &Group, slot: u16) -> u16 {
    group.state.master(Slot(slot)).expect("formed").master.0
}

fn generation(group: &Group, slot: u16) -> SlotGeneration {
    group.state.master(Slot(slot)).expect("formed").generation
}

fn pin(slot: u16, node: u16) -> Command {
    Command::Pin { slot: Slot(slot), node: NodeId(node) }
}

fn attract(group: &Group, slots: impl Iterator<Item = u16>, to: u16) -> Command {
    Command::Attract { slots: slots.map(|slot| (Slot(slot), generation(group, slot), NodeId(to))).collect() }
}

/// Slots of a node.
fn slots_of(group: &Group, node: u16) -> Vec<u16> {
    group.state.slots_of(NodeId(node)).iter().map(|slot| slot.0).collect()
}

#[test]
fn a_pinned_slot_goes_to_its_member_and_counts_as_its_share() {
    let mut group = Group::up(&[1, 1, 1]);
    let pinned: Vec<u16> = slots_of(&group, 1).into_iter().take(100).collect();
    pinned.iter().for_each(|slot| drop(group.must(&pin(*slot, 3))));
    settle(&mut group);
    assert!(pinned.iter().all(|slot| master(&group, *slot) == 3));
    assert!(group.spread().iter().all(|slots| (1364..=1367).contains(slots)), "{:?}", group.spread());
    assert_eq!(group.must(&pin(pinned[0], 3)), [], "said again");
}

#[test]
fn a_pinned_slot_comes_back_with_its_member() {
    let mut group = Group::up(&[1, 1, 1]);
    group.must(&pin(7, 2));
    settle(&mut group);
    assert_eq!(master(&group, 7), 2);
    group.evict(2);
    assert_ne!(master(&group, 7), 2, "others have it meanwhile");
    settle(&mut group);
    assert_ne!(master(&group, 7), 2);
    group.start(2);
    settle(&mut group);
    assert_eq!(master(&group, 7), 2);
    // Its member drains: it goes, and is not its own any more than any other slot until that one is up again.
    group.drain(2);
    settle(&mut group);
    assert_ne!(master(&group, 7), 2);
    assert_eq!(group.spread()[1], 0);
}

#[test]
fn a_dead_masters_slots_that_are_pinned_go_where_they_belong_at_once() {
    let mut group = Group::up(&[1, 1, 1, 1]);
    let all = slots_of(&group, 1);
    all.iter().for_each(|slot| drop(group.must(&pin(*slot, 4))));
    group.evict(1);
    assert!(all.iter().all(|slot| master(&group, *slot) == 4));
}

#[test]
fn what_is_unpinned_is_evened_out_again() {
    let mut group = Group::up(&[1, 1]);
    let all: Vec<u16> = (0..4_096).collect();
    all.iter().for_each(|slot| drop(group.must(&pin(*slot, 2))));
    settle(&mut group);
    assert_eq!(group.spread(), [0, 4096]);
    all.iter().for_each(|slot| drop(group.must(&Command::Unpin { slot: Slot(*slot) })));
    settle(&mut group);
    assert!(group.spread().iter().all(|slots| (2047..=2049).contains(slots)), "{:?}", group.spread());
    assert_eq!(group.try_apply(&Command::Unpin { slot: Slot(all[0]) }), Err(Refused::Unknown));
}

#[test]
fn nothing_is_pinned_to_who_may_not_have_it() {
    let mut group = Group::up(&[1, 1, 0]);
    assert_eq!(group.try_apply(&pin(7, 3)), Err(Refused::Invalid), "a witness");
    assert_eq!(group.try_apply(&pin(7, 9)), Err(Refused::Unknown));
    assert_eq!(group.try_apply(&pin(4_096, 1)), Err(Refused::Invalid));
    group.must(&pin(7, 2));
    group.evict(2);
    group.must(&Command::Remove { node: NodeId(2) });
    assert_eq!(group.state.places.len(), 0, "forgotten with its member");
}

#[test]
fn another_weight_moves_slots_and_no_more_than_that() {
    let mut group = Group::up(&[1, 1, 2]);
    let before = group.state.clone();
    group.must(&Command::Weigh { node: NodeId(1), weight: 5 });
    settle(&mut group);
    assert_eq!(group.spread(), [2560, 512, 1024]);
    let moved = Slot::all().filter(|slot| before.master(*slot) != group.state.master(*slot)).count();
    assert_eq!(moved, 2560 - 1024);
    for (node, weight) in [(1, 0), (1, 1_001)] {
        let weigh = Command::Weigh { node: NodeId(node), weight };
        assert_eq!(group.try_apply(&weigh), Err(Refused::Invalid));
    }
    group.must(&Command::Admit { seat: seat(4, 0) });
    assert_eq!(group.try_apply(&Command::Weigh { node: NodeId(4), weight: 1 }), Err(Refused::Invalid), "a witness");
}

#[test]
fn a_slot_that_is_used_stays_with_who_uses_it() {
    let mut group = Group::up(&[1, 1, 1]);
    let used: Vec<u16> = slots_of(&group, 1).into_iter().take(50).collect();
    group.must(&attract(&group, used.iter().copied(), 2));
    assert!(used.iter().all(|slot| master(&group, *slot) == 2), "at once");
    settle(&mut group);
    assert!(used.iter().all(|slot| master(&group, *slot) == 2), "and not evened out");
    assert!(group.spread().iter().all(|slots| (1364..=1367).contains(slots)), "{:?}", group.spread());
    // It is used no more.
    let generation = generation(&group, used[0]);
    group.must(&Command::Forsake { slots: vec![(Slot(used[0]), generation)] });
    assert_eq!(group.state.places.len(), 49);
    group.evict(2);
    assert_eq!(group.state.places.len(), 0, "its user has gone");
}

#[test]
fn use_gives_nobody_more_than_twice_its_share_and_nothing_that_is_pinned() {
    let mut group = Group::up(&[1, 1, 1, 1]);
    let all = slots_of(&group, 1);
    group.must(&pin(all[0], 3));
    assert_eq!(group.try_apply(&attract(&group, all.iter().copied().take(1), 2)), Err(Refused::Exists));
    assert_eq!(group.state.room(NodeId(2)), 1_024);
    group.must(&attract(&group, all.iter().copied().skip(1), 2));
    assert_eq!(group.state.room(NodeId(2)), 1);
    let more = slots_of(&group, 4);
    assert_eq!(group.try_apply(&attract(&group, more.iter().copied().take(2), 2)), Err(Refused::Full));
    group.must(&attract(&group, more.iter().copied().take(1), 2));
}

#[test]
fn the_steward_moves_places_in_small_batches_too() {
    let mut group = Group::up(&[1, 1]);
    slots_of(&group, 1).into_iter().for_each(|slot| drop(group.must(&pin(slot, 2))));
    let now = Time::ZERO.after(Span::from_secs(100));
    let mut steward = Steward::new(StewardConfig::default(), now);
    let commands = steward.poll(now, &group.state);
    assert!(matches!(&commands[..], [Command::Move { slots }] if slots.len() == 64), "{}", commands.len());
}

#[test]
fn only_the_slots_master_says_what_is_kept() {
    let mut group = Group::up(&[1, 1]);
    let spec = SpaceSpec { persistent: true, ..SpaceSpec::named("kept") };
    group.must(&Command::CreateSpace { spec, nonce: 1 });
    let space = SpaceId(group.state.newest_space);
    let now = generation(&group, 7);
    let keep = |space, generation, order, value: &[u8]| Command::Keep {
        space,
        slot: Slot(7),
        generation,
        order,
        name: b"disk".to_vec(),
        kept: Kept { value: value.to_vec(), ..Kept::default() },
    };
    group.must(&keep(space, now, 1, b"state"));
    assert_eq!(group.state.kept[&space][&b"disk"[..]].value, b"state");
    let older = SlotGeneration(now.0 - 1);
    assert_eq!(group.try_apply(&keep(space, older, 2, b"old")), Err(Refused::Outdated));
    assert_eq!(group.try_apply(&keep(SpaceId(0), now, 2, b"x")), Err(Refused::Invalid), "it keeps nothing");
    assert_eq!(group.try_apply(&keep(space, now, 2, &[0; 1_025])), Err(Refused::Invalid));
    group.must(&keep(space, now, 3, b"newer"));
    assert_eq!(group.try_apply(&keep(space, now, 1, b"state")), Err(Refused::Outdated), "a late copy");
    group.must(&Command::RaiseEpoch { by: 1 << 16 });
    assert!(group.state.kept[&space][&b"disk"[..]].dubious, "newer was given up, maybe");
    group.must(&keep(space, now, 4, b""));
    assert!(group.state.kept.is_empty(), "nothing is to be kept");
}
