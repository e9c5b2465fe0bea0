//! Identities: newtypes, so that no two kinds of number can be mistaken for each other.

use core::fmt;

/// A client's lease on the service: 128 bits from the operating system's random source, chosen by the client, so that a
/// repeated open is recognised. An id is a name, not a secret.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SessionId(pub u128);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl SessionId {
    /// The id of a text made by `Display`.
    #[must_use]
    pub fn parse(text: &str) -> Option<SessionId> {
        let digits = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        digits.then(|| u128::from_str_radix(text, 16).ok().map(SessionId)).flatten()
    }
}

/// A lock, as the node that granted or queued it numbers it. Never zero; not reused within an incarnation of a node
/// until 2^32 further locks used the same place.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LockId(pub u64);

/// A request within its session: 1, 2, 3 ... in the order the client issued them.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct RequestId(pub u64);

/// A lockspace as a node numbers it; kept in the data directory, so it survives a restart. 0 is `default`.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct SpaceId(pub u32);

/// A named group of sessions that own locks together.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GroupId(pub u32);

/// A member of the cluster. A single node is number 1.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId(pub u16);

/// A connection of a client to a node, as the shell numbers it. Not reused while anything may still speak of it.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ConnId(pub u64);

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    use super::*;

    #[test]
    fn a_session_id_is_read_as_it_is_written() {
        for id in [SessionId(0), SessionId(u128::MAX), SessionId(0x1234)] {
            assert_eq!(SessionId::parse(&id.to_string()), Some(id));
        }
        for text in ["", "1234", "+0000000000000000000000000001234", "0000000000000000000000000000123g"] {
            assert_eq!(SessionId::parse(text), None, "{text}");
        }
    }
}
