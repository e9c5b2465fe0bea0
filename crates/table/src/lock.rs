//! A lock: one owner's place at a resource. The common record is 40 bytes; what only some locks have (a wait, a tag,
//! permits) stands in a side record.

use alloc::boxed::Box;

use lockstead_types::{Flags, LockId, Mode, Time, Token};

use crate::slab::NIL;

/// Which queue of its resource a lock is in.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// None: the place is free.
    Vacant,
    /// A new request that waits.
    Waiting,
    /// Held.
    Granted,
    /// Held in its old mode, and waiting for another.
    Converting,
}

/// The flags a lock keeps, and what kind of lock it is.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Traits(u8);

impl Traits {
    pub(crate) const PERSISTENT: Traits = Traits(1);
    pub(crate) const NODLCKBLK: Traits = Traits(2);
    pub(crate) const NOBAST: Traits = Traits(4);
    pub(crate) const ALONE: Traits = Traits(8);
    pub(crate) const PERMITS: Traits = Traits(16);
    /// Its token was given by another table, or by this one before a restart.
    pub(crate) const FOREIGN: Traits = Traits(32);
    /// Of a part of its resource, or of the whole, in a lockspace with extents.
    pub(crate) const EXTENT: Traits = Traits(64);
    const KEPT_FLAGS: u8 = 7;

    pub(crate) fn of(flags: Flags) -> Traits {
        if flags == Flags::NONE {
            return Traits(0);
        }
        let pairs = [
            (Flags::PERSISTENT, Traits::PERSISTENT),
            (Flags::NODLCKBLK, Traits::NODLCKBLK),
            (Flags::NOBAST, Traits::NOBAST),
        ];
        pairs.iter().filter(|(flag, _)| flags.has(*flag)).fold(Traits(0), |all, (_, t)| all.with(*t))
    }

    pub(crate) const fn has(self, other: Traits) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) const fn with(self, other: Traits) -> Traits {
        Traits(self.0 | other.0)
    }

    pub(crate) const fn without(self, other: Traits) -> Traits {
        Traits(self.0 & !other.0)
    }

    pub(crate) fn with_if(self, on: bool, other: Traits) -> Traits {
        if on { self.with(other) } else { self }
    }

    /// The flags that are kept.
    pub(crate) fn flags(self) -> Flags {
        let flag = |t: Traits, flag: Flags| if self.has(t) { flag } else { Flags::NONE };
        flag(Traits::PERSISTENT, Flags::PERSISTENT)
            .with(flag(Traits::NODLCKBLK, Flags::NODLCKBLK))
            .with(flag(Traits::NOBAST, Flags::NOBAST))
    }

    /// The same kind of lock with the flags of `flags` ([FLAG-8]).
    pub(crate) fn replaced(self, flags: Flags) -> Traits {
        Traits(self.0 & !Traits::KEPT_FLAGS | Traits::of(flags).0)
    }
}

/// Where the token is: here, or in the side record. A token is below 2^63, so the top bit can tell.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Body(u64);

const SIDE_BIT: u64 = 1 << 63;

impl Body {
    pub(crate) const EMPTY: Body = Body(0);

    pub(crate) fn token(token: Token) -> Body {
        Body(token.as_u64())
    }

    pub(crate) fn in_side(index: u32) -> Body {
        Body(SIDE_BIT | u64::from(index))
    }

    /// The side record, [`NIL`] where there is none.
    pub(crate) fn side(self) -> u32 {
        if self.0 & SIDE_BIT == 0 { NIL } else { self.0 as u32 }
    }

    /// The token, where there is no side record.
    pub(crate) fn plain(self) -> Token {
        Token::from_u64(self.0).unwrap_or(Token::NONE)
    }
}

/// The highest mode a holder was told it blocks, since its grant.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Told(u8);

impl Told {
    pub(crate) const NOTHING: Told = Told(u8::MAX);

    pub(crate) fn of(mode: Mode) -> Told {
        Told(mode.0)
    }

    pub(crate) fn mode(self) -> Option<Mode> {
        if self == Told::NOTHING { None } else { Some(Mode(self.0)) }
    }
}

/// A lock.
#[derive(Clone, Debug)]
pub(crate) struct Lock {
    pub(crate) body: Body,
    pub(crate) resource: u32,
    /// Neighbours in the queue of the resource, a ring.
    pub(crate) next: u32,
    pub(crate) prev: u32,
    pub(crate) owner: u32,
    /// Neighbours among the locks of the owner, a ring.
    pub(crate) owner_next: u32,
    pub(crate) owner_prev: u32,
    /// How often this place was used: half of the lock's id, so that an old id never finds a new lock.
    pub(crate) generation: u32,
    /// The mode held; of a new request that waits, the mode it waits for.
    pub(crate) mode: Mode,
    pub(crate) state: State,
    pub(crate) told: Told,
    pub(crate) traits: Traits,
}

const _: () = assert!(size_of::<Lock>() == 40);

impl Lock {
    pub(crate) fn vacant() -> Lock {
        Lock {
            body: Body::EMPTY,
            resource: NIL,
            next: NIL,
            prev: NIL,
            owner: NIL,
            owner_next: NIL,
            owner_prev: NIL,
            generation: 0,
            mode: Mode(0),
            state: State::Vacant,
            told: Told::NOTHING,
            traits: Traits(0),
        }
    }

    pub(crate) fn is_held(&self) -> bool {
        matches!(self.state, State::Granted | State::Converting)
    }

    pub(crate) fn is_pending(&self) -> bool {
        matches!(self.state, State::Waiting | State::Converting)
    }
}

/// The id of the lock at a place.
pub(crate) fn id_of(index: u32, generation: u32) -> LockId {
    LockId(u64::from(generation) << 32 | u64::from(index))
}

/// The place and generation of an id.
pub(crate) fn parts_of(id: LockId) -> (u32, u32) {
    (id.0 as u32, (id.0 >> 32) as u32)
}

/// What only some locks have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Side {
    pub(crate) token: Token,
    pub(crate) tag: u32,
    /// Permits held or wanted; of a lock with an extent its place among the nodes of the index, one higher. 0 for any other.
    pub(crate) more: u32,
    pub(crate) wait: Option<Wait>,
}

/// What a lock waits for, and how.
#[derive(Clone, Debug)]
pub(crate) struct Wait {
    /// What the caller gave, to be given back with the end of the wait.
    pub(crate) origin: u64,
    pub(crate) want: Mode,
    pub(crate) flags: Flags,
    pub(crate) since: Time,
    pub(crate) deadline: Option<Time>,
    /// Its place among all that ever came to the table: larger came later.
    pub(crate) ticket: u64,
    /// Its place in the order of a `fair` queue ([FAIR-3]).
    pub(crate) rank: i64,
    pub(crate) priority: i8,
    /// Grants that passed it ([FAIR-1]).
    pub(crate) overtaken: u16,
    /// CONVDEADLK made it fall back to the null mode.
    pub(crate) demoted: bool,
    /// It came while its slot was frozen, here.
    pub(crate) held_up: bool,
    /// What a granted conversion will write.
    pub(crate) value: Option<Box<[u8]>>,
}

const _: () = assert!(size_of::<Side>() <= 96);
