//! The forms of commands and of the state. A new field or variant needs a new version, or a new tag at the end.

use std::io;

use lockstead_cluster::{
    Command, EndWhy, Kept, Member, MemberState, Place, PlaceWhy, Seat, SessionEntry, SlotEntry, State,
};
use lockstead_types::{
    NodeId, SessionId, Slot, SpaceId, Span,
    hierarchy::{Escalate, EscalateLevel, Escalation, Hierarchy},
    mode::{ModeSpec, ModeTableSpec},
    peer::{HomeGeneration, Incarnation, SlotGeneration},
    space::{DeadlockPolicy, Mastering, ModeChoice, QueuePolicy, SpaceSpec, VictimPolicy},
    transaction::Discipline,
};

use super::{
    bad,
    field::{Code, Reader},
};

/// Newtypes of numbers.
macro_rules! wrapped {
    ($($name:ident)*) => {$(
        impl Code for $name {
            fn put(&self, out: &mut Vec<u8>) {
                self.0.put(out);
            }

            fn take(from: &mut Reader<'_>) -> io::Result<$name> {
                Ok($name(Code::take(from)?))
            }
        }
    )*};
}

/// Structs: their fields in this order.
macro_rules! record {
    ($name:ident { $($field:ident),* $(,)? }) => {
        impl Code for $name {
            fn put(&self, out: &mut Vec<u8>) {
                let $name { $($field),* } = self;
                $($field.put(out);)*
            }

            fn take(from: &mut Reader<'_>) -> io::Result<$name> {
                $(let $field = Code::take(from)?;)*
                Ok($name { $($field),* })
            }
        }
    };
}

/// Enums: a tag, then the fields in this order.
macro_rules! choice {
    ($name:ident { $($tag:literal $variant:ident { $($field:ident),* })* }) => {
        impl Code for $name {
            fn put(&self, out: &mut Vec<u8>) {
                match self {
                    $($name::$variant { $($field),* } => {
                        out.push($tag);
                        $($field.put(out);)*
                    })*
                }
            }

            fn take(from: &mut Reader<'_>) -> io::Result<$name> {
                match u8::take(from)? {
                    $($tag => {
                        $(let $field = Code::take(from)?;)*
                        Ok($name::$variant { $($field),* })
                    })*
                    tag => Err(bad(&format!(concat!("no ", stringify!($name), " has the tag {}"), tag))),
                }
            }
        }
    };
}

wrapped! { NodeId SessionId Slot SpaceId Incarnation SlotGeneration HomeGeneration }

impl Code for Span {
    fn put(&self, out: &mut Vec<u8>) {
        self.as_nanos().put(out);
    }

    fn take(from: &mut Reader<'_>) -> io::Result<Span> {
        Ok(Span::from_nanos(u64::take(from)?))
    }
}

record!(Seat { node, identity, peer_address, client_address, weight });
record!(SpaceSpec {
    name,
    modes,
    policy,
    deadlock,
    victim,
    value_bytes,
    levels,
    extents,
    mastering,
    persistent,
    discipline,
    hierarchy
});
record!(Hierarchy { levels, escalation });
record!(Escalate { level, at, retry });
record!(ModeTableSpec { name, modes, relation, shortcuts });
record!(ModeSpec { name, aliases, writes, intent });
record!(Member { identity, incarnation, nonce, state, weight, peer_address, client_address });
record!(Kept { value, dubious, written });
record!(Place { node, why });
record!(SlotEntry { master, incarnation, generation });
record!(SessionEntry { home, incarnation, generation, ttl, principal, local });
record!(State {
    version,
    epoch,
    seed,
    key,
    members,
    retired,
    slots,
    places,
    spaces,
    newest_space,
    space_nonces,
    closing,
    sessions,
    ttl_max,
    kept,
    said,
});

choice!(MemberState { 0 Down {} 1 Up {} 2 Draining {} });
choice!(PlaceWhy { 0 Pinned {} 1 Used {} });
choice!(EndWhy { 0 Goodbye {} 1 Expired {} 2 Forced {} });
choice!(DeadlockPolicy { 0 Detect {} 1 Timeout {} 2 NoWait {} 3 WaitDie {} 4 WoundWait {} });
choice!(Discipline { 0 Strict {} 1 TwoPhase {} 2 ThreePhase {} 3 Free {} });
choice!(Mastering { 0 Spread {} 1 Affinity {} });
choice!(VictimPolicy { 0 Requester {} 1 Youngest {} 2 FewestLocks {} 3 LowestPriority {} });
choice!(QueuePolicy { 0 Vms {} 1 Fair { overtakes, ageing } });

impl Code for Escalation {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Escalation::Off => out.push(0),
            Escalation::To(escalate) => {
                out.push(1);
                escalate.put(out);
            }
        }
    }

    fn take(from: &mut Reader<'_>) -> io::Result<Escalation> {
        match u8::take(from)? {
            0 => Ok(Escalation::Off),
            1 => Ok(Escalation::To(Code::take(from)?)),
            tag => Err(bad(&format!("no escalation has the tag {tag}"))),
        }
    }
}

impl Code for EscalateLevel {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            EscalateLevel::Parent => out.push(0),
            EscalateLevel::Level(level) => {
                out.push(1);
                level.put(out);
            }
        }
    }

    fn take(from: &mut Reader<'_>) -> io::Result<EscalateLevel> {
        match u8::take(from)? {
            0 => Ok(EscalateLevel::Parent),
            1 => Ok(EscalateLevel::Level(Code::take(from)?)),
            tag => Err(bad(&format!("no level of escalation has the tag {tag}"))),
        }
    }
}

impl Code for ModeChoice {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            ModeChoice::BuiltIn(name) => {
                out.push(0);
                name.put(out);
            }
            ModeChoice::Custom(spec) => {
                out.push(1);
                spec.put(out);
            }
        }
    }

    fn take(from: &mut Reader<'_>) -> io::Result<ModeChoice> {
        match u8::take(from)? {
            0 => Ok(ModeChoice::BuiltIn(String::take(from)?)),
            1 => Ok(ModeChoice::Custom(ModeTableSpec::take(from)?)),
            tag => Err(bad(&format!("no ModeChoice has the tag {tag}"))),
        }
    }
}

choice!(Command {
    0 Form { seed, key, seats, spaces }
    1 Admit { seat }
    2 Start { node, identity, nonce, after, peer_address, client_address }
    3 Evict { node, incarnation }
    4 Drain { node, incarnation }
    5 Remove { node }
    6 Move { slots }
    7 OpenSession { session, home, incarnation, ttl, principal, local }
    8 RehomeSession { session, from, home, incarnation }
    9 EndSession { session, home, why }
    10 CreateSpace { spec, nonce }
    11 DropSpace { space, force }
    12 RaiseEpoch { by }
    13 Pin { slot, node }
    14 Unpin { slot }
    15 Weigh { node, weight }
    16 Attract { slots }
    17 Forsake { slots }
    18 Keep { space, slot, generation, order, name, kept }
});

#[cfg(test)]
mod tests {
    use lockstead_types::tables::built_in;

    use super::*;
    use crate::codec::{decode_command, decode_state, encode_command, encode_state};

    fn seat(node: u16) -> Seat {
        Seat {
            node: NodeId(node),
            identity: u128::MAX - u128::from(node),
            peer_address: format!("10.0.0.{node}:7102"),
            client_address: String::new(),
            weight: 1,
        }
    }

    fn commands() -> Vec<Command> {
        let (node, incarnation, session) = (NodeId(2), Incarnation(1), SessionId(7 << 100));
        let custom = SpaceSpec {
            modes: ModeChoice::Custom(built_in("granular").unwrap().spec().clone()),
            policy: QueuePolicy::FAIR,
            deadlock: DeadlockPolicy::NoWait,
            victim: VictimPolicy::LowestPriority,
            levels: 1,
            extents: true,
            mastering: Mastering::Affinity,
            persistent: true,
            ..SpaceSpec::named("own")
        };
        vec![
            Command::Form {
                seed: 5,
                key: [9; 32],
                seats: vec![seat(1), seat(2)],
                spaces: vec![SpaceSpec::named("orders")],
            },
            Command::Admit { seat: seat(3) },
            Command::Start {
                node,
                identity: seat(2).identity,
                nonce: 4,
                after: 0,
                peer_address: "a:1".into(),
                client_address: "b:2".into(),
            },
            Command::OpenSession {
                session,
                home: node,
                incarnation,
                ttl: Span::from_secs(9),
                principal: "me".into(),
                local: false,
            },
            Command::RehomeSession { session, from: HomeGeneration(0), home: node, incarnation },
            Command::CreateSpace { spec: custom, nonce: 8 },
            Command::DropSpace { space: SpaceId(1), force: false },
            Command::Move { slots: vec![(Slot(1), SlotGeneration(2), node)] },
            Command::Keep {
                space: SpaceId(2),
                slot: Slot(1),
                generation: SlotGeneration(2),
                order: 1,
                name: b"orders".to_vec(),
                kept: Kept { value: b"state".to_vec(), dubious: true, written: false },
            },
            Command::Pin { slot: Slot(9), node },
            Command::Pin { slot: Slot(10), node },
            Command::Unpin { slot: Slot(10) },
            Command::Weigh { node, weight: 300 },
            Command::Attract { slots: vec![(Slot(1), SlotGeneration(3), node)] },
            Command::Forsake { slots: vec![(Slot(1), SlotGeneration(4))] },
            Command::Drain { node, incarnation },
            Command::EndSession { session, home: HomeGeneration(3), why: EndWhy::Forced },
            Command::Evict { node, incarnation },
            Command::Remove { node: NodeId(3) },
            Command::RaiseEpoch { by: 1 << 16 },
        ]
    }

    #[test]
    fn commands_and_state_come_back_as_they_were() {
        let mut state = State::default();
        for command in commands() {
            assert_eq!(decode_command(&encode_command(&command)).unwrap(), command);
            let _ = state.apply(&command);
            assert_eq!(decode_state(&encode_state(&state)).unwrap(), state);
        }
        assert!(state.sessions.len() == 1 && state.spaces.len() == 3 && state.closing.len() == 1);
        assert_eq!((state.places.len(), state.kept.len()), (1, 1));
    }

    #[test]
    fn no_cut_or_changed_bytes_panic_or_pass_as_longer() {
        for command in commands() {
            let bytes = encode_command(&command);
            assert!((0..bytes.len()).all(|end| decode_command(&bytes[..end]).is_err()));
            for at in 0..bytes.len() {
                let mut other = bytes.clone();
                other[at] ^= 0xff;
                let _ = decode_command(&other);
            }
        }
    }

    #[test]
    fn a_newer_version_is_named() {
        let mut bytes = encode_command(&Command::RaiseEpoch { by: 1 });
        bytes[0] = 2;
        assert!(decode_command(&bytes).unwrap_err().to_string().contains("newer version (2)"));
    }

    /// What is in logs on disks stays readable: these bytes never change.
    #[test]
    fn a_command_stands_in_these_bytes() {
        let end = Command::EndSession { session: SessionId(1), home: HomeGeneration(2), why: EndWhy::Expired };
        let mut golden = vec![1, 9, 1];
        golden.extend([0; 15]);
        golden.extend([2, 0, 0, 0, 1]);
        assert_eq!(encode_command(&end), golden);
    }
}
