//! A resource: its name, its three queues, what is held there in one bit set, and a side record for what is rare.

use alloc::boxed::Box;

use lockstead_types::{Mode, ModeSet, Token, mode::MODES_MAX, reply::Value};

use crate::{extents::Spread, slab::NIL};

/// Bytes of a name that fit in the record.
pub(crate) const INLINE_NAME: usize = 20;
const VACANT: u8 = 255;
const LONG: u8 = 254;

/// A resource.
#[derive(Clone, Debug)]
pub(crate) struct Resource {
    name_len: u8,
    name: [u8; INLINE_NAME],
    /// Restored, and nobody has said yet what its value block is: empty and invalid then. Here, and not in the side record, since
    /// after a move nearly all resources of a slot are like that.
    pub(crate) doubtful: bool,
    pub(crate) space: u16,
    /// Heads of the three queues, rings through [`crate::lock::Lock::next`].
    pub(crate) granted: u32,
    pub(crate) converting: u32,
    pub(crate) waiting: u32,
    pub(crate) extra: u32,
    /// The modes held, conversions under way in their old mode.
    pub(crate) held: ModeSet,
    /// How many locks hold.
    pub(crate) holders: u32,
}

const _: () = assert!(size_of::<Resource>() == 48);

impl Resource {
    pub(crate) fn vacant() -> Resource {
        Resource {
            name_len: VACANT,
            name: [0; INLINE_NAME],
            doubtful: false,
            space: 0,
            granted: NIL,
            converting: NIL,
            waiting: NIL,
            extra: NIL,
            held: ModeSet::EMPTY,
            holders: 0,
        }
    }

    pub(crate) fn is_vacant(&self) -> bool {
        self.name_len == VACANT
    }

    /// Stores a short name.
    pub(crate) fn set_short_name(&mut self, name: &[u8]) {
        debug_assert!(name.len() <= INLINE_NAME);
        self.name_len = name.len() as u8;
        for (to, from) in self.name.iter_mut().zip(name) {
            *to = *from;
        }
    }

    /// Stores where a long name is.
    pub(crate) fn set_long_name(&mut self, index: u32) {
        self.name_len = LONG;
        for (to, from) in self.name.iter_mut().zip(index.to_le_bytes()) {
            *to = from;
        }
    }

    /// The name, or the place of the long name.
    pub(crate) fn name(&self) -> Result<&[u8], u32> {
        if self.name_len == LONG {
            let [a, b, c, d, ..] = self.name;
            return Err(u32::from_le_bytes([a, b, c, d]));
        }
        Ok(self.name.get(..usize::from(self.name_len)).unwrap_or_default())
    }

    /// Whether no lock is there.
    pub(crate) fn is_empty(&self) -> bool {
        self.granted == NIL && self.converting == NIL && self.waiting == NIL
    }
}

/// What only some resources have.
#[derive(Clone, Debug)]
pub(crate) struct Extra {
    pub(crate) resource: u32,
    pub(crate) value: Option<Value>,
    /// How the value block is known, while its slot is frozen.
    pub(crate) credit: Credit,
    pub(crate) permits: Option<Pool>,
    /// How many hold each mode, kept once there are many holders.
    pub(crate) counts: Option<Box<[u32; MODES_MAX]>>,
    /// About those that wait; there once anything ever waited.
    pub(crate) queue: Option<Box<Queue>>,
    /// The extents of its locks, in a lockspace with extents.
    pub(crate) spread: Option<Box<Spread>>,
}

impl Extra {
    pub(crate) fn of(resource: u32) -> Extra {
        Extra { resource, value: None, credit: Credit::Nothing, permits: None, counts: None, queue: None, spread: None }
    }
}

/// How well a value block is known that came from elsewhere: what is known better replaces what is known worse ([SLOT-7]).
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) enum Credit {
    /// Nobody has said anything.
    #[default]
    Nothing,
    /// From a holder of this token, beside whom others may have written since.
    Hearsay(Token),
    /// From a holder of this token, beside whom nobody can have written.
    Sure(Token),
    /// From the master that gave the slot up.
    Master,
    /// Written, or marked invalid, here.
    Here,
}

/// The permits of a resource.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Pool {
    pub(crate) of: u32,
    pub(crate) taken: u32,
}

/// About those that wait at a resource.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    /// How many wait for each mode.
    pub(crate) wanted: [u32; MODES_MAX],
    pub(crate) wanted_set: ModeSet,
    pub(crate) converting: u32,
    pub(crate) waiting: u32,
    /// How many of them may be granted, or demoted, though not at the head of their queue: NOORDER and CONVDEADLK.
    pub(crate) irregular: u32,
    /// How many of them were overtaken as often as the bound allows ([FAIR-1]).
    pub(crate) due: u32,
    /// Whether the waiting requests stand in the order they came.
    pub(crate) straight: bool,
    /// Whether some of them were restored, and are to be put in order at the thaw ([SLOT-6]).
    pub(crate) restored: bool,
    /// The wanted modes for which every holder has been told what it is to be told; `None` if a grant came since.
    pub(crate) told_for: Option<ModeSet>,
}

impl Queue {
    pub(crate) fn new() -> Queue {
        Queue {
            wanted: [0; MODES_MAX],
            wanted_set: ModeSet::EMPTY,
            converting: 0,
            waiting: 0,
            irregular: 0,
            due: 0,
            straight: true,
            restored: false,
            told_for: None,
        }
    }

    pub(crate) fn len(&self) -> u32 {
        self.converting.saturating_add(self.waiting)
    }

    pub(crate) fn add_wanted(&mut self, mode: Mode) {
        if let Some(count) = self.wanted.get_mut(usize::from(mode.0)) {
            *count += 1;
            self.wanted_set = self.wanted_set.with(mode);
        }
    }

    pub(crate) fn remove_wanted(&mut self, mode: Mode) {
        if let Some(count) = self.wanted.get_mut(usize::from(mode.0)) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.wanted_set = self.wanted_set.without(mode);
            }
        }
    }
}
