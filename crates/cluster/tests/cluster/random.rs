//! Any sequence of commands, with the state proven after each, and the same on two nodes.

use lockstead_cluster::{Command, EndWhy, Kept, State};
use lockstead_types::{
    NodeId, SessionId, Slot, SpaceId, Span,
    peer::{HomeGeneration, Incarnation, SlotGeneration},
    space::SpaceSpec,
};

use crate::support::{Group, open, seat, start};

struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }

    /// A number of something, mostly as it is, sometimes as it was or never will be.
    fn about(&mut self, now: u32) -> u32 {
        match self.below(8) {
            0 => now.wrapping_sub(1),
            1 => now + 1,
            _ => now,
        }
    }
}

#[test]
fn any_commands_leave_a_state_that_holds() {
    for seed in 1..=40 {
        let mut chance = Chance(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let weights: Vec<u32> =
            (0..=chance.below(5)).map(|n| if n == 3 { 0 } else { 1 + chance.below(3) as u32 }).collect();
        let mut group = Group::formed(&weights);
        let mut twin = State { version: 0, ..State::default() };
        let seats = (1..).zip(&weights).map(|(node, weight)| seat(node, *weight)).collect();
        let form = Command::Form { seed: 7, key: [3; 32], seats, spaces: vec![SpaceSpec::named("orders")] };
        twin.apply(&form).unwrap();
        let mut applied = 0;
        let mut last: Vec<Command> = Vec::new();
        for _ in 0..250 {
            let command = match chance.below(10) {
                0 if !last.is_empty() => last[chance.below(last.len() as u64) as usize].clone(),
                _ => draw(&mut chance, &group.state),
            };
            applied += u32::from(group.try_apply(&command).is_ok());
            let _ = twin.apply(&command);
            last.push(command);
        }
        assert_eq!(group.state, twin, "seed {seed}");
        assert!(applied > 40, "seed {seed}: only {applied} commands did anything");
    }
}

fn draw(chance: &mut Chance, state: &State) -> Command {
    let node = NodeId(1 + chance.below(6) as u16);
    let now = state.members.get(&node).map_or(0, |member| member.incarnation.0);
    let incarnation = Incarnation(chance.about(now));
    let session = SessionId(u128::from(chance.below(12)));
    let known = state.sessions.get(&session).map_or(0, |entry| entry.generation.0);
    let home = HomeGeneration(chance.about(known));
    match chance.below(17) {
        0..=2 => {
            let after = state.members.get(&node).map_or(0, |member| member.nonce);
            start(node.0, chance.about(after as u32).into(), chance.below(1_000_000))
        }
        3 => Command::Evict { node, incarnation },
        4 => Command::Drain { node, incarnation },
        5 => Command::Remove { node },
        6 => Command::Admit { seat: seat(node.0, chance.below(3) as u32) },
        7 | 8 => {
            let slots = (0..=chance.below(3)).map(|_| {
                let slot = Slot(chance.below(4_100) as u16);
                let generation = state.master(slot).map_or(0, |now| now.generation.0);
                (slot, SlotGeneration(chance.about(generation)), NodeId(1 + chance.below(6) as u16))
            });
            Command::Move { slots: slots.collect() }
        }
        9 | 10 => open(session.0, node.0, incarnation, Span::from_millis(chance.below(9_000))),
        11 => Command::RehomeSession { session, from: home, home: node, incarnation },
        12 => Command::EndSession { session, home, why: EndWhy::Expired },
        13 => Command::Pin { slot: Slot(chance.below(40) as u16), node },
        14 => match chance.below(2) {
            0 => Command::Unpin { slot: Slot(chance.below(40) as u16) },
            _ => Command::Weigh { node, weight: chance.below(4) as u32 },
        },
        15 => {
            let slot = Slot(chance.below(40) as u16);
            let generation = SlotGeneration(chance.about(state.master(slot).map_or(0, |now| now.generation.0)));
            match chance.below(5) {
                1 | 2 => {
                    let kept = Kept {
                        value: vec![1; chance.below(3) as usize],
                        dubious: chance.below(2) == 0,
                        written: false,
                    };
                    Command::Keep {
                        space: SpaceId(chance.below(4) as u32),
                        slot,
                        generation,
                        order: chance.below(9),
                        name: b"n".to_vec(),
                        kept,
                    }
                }
                0 => Command::Forsake { slots: vec![(slot, generation)] },
                _ => Command::Attract { slots: vec![(slot, generation, node)] },
            }
        }
        _ => match chance.below(3) {
            0 => Command::CreateSpace {
                spec: SpaceSpec { persistent: true, ..SpaceSpec::named(&format!("space-{}", chance.below(5))) },
                nonce: chance.below(3),
            },
            1 => Command::DropSpace { space: SpaceId(chance.below(6) as u32), force: chance.below(2) == 0 },
            _ => Command::RaiseEpoch { by: chance.below(5) as u32 },
        },
    }
}
