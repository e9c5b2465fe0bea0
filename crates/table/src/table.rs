//! The table itself: what it is made of, lockspaces, owners, and the context of one call.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use lockstead_types::{Limits, Mode, ModeTable, Refusal, SessionId, SlotSet, SpaceId, Time, Token};

use crate::{
    Counts, Effect, Outcome, OwnerId, Space,
    interval::Node,
    lock::{Lock, Side},
    nest::Nest,
    owner::Owners,
    resource::{Extra, Resource},
    since::GrantTimes,
    slab::{NIL, Slab},
};

/// Name indexes are split so that no growth of one moves more than a 64th of all resources.
pub(crate) const INDEXES: usize = 64;

/// A sequence number of another node is not believed where it would leave fewer than these.
const SEQUENCE_RESERVE: u64 = 1 << 32;

/// The lock manager.
pub struct Table {
    pub(crate) limits: Limits,
    pub(crate) epoch: u32,
    pub(crate) sequence: u64,
    pub(crate) hasher: FixedState,
    /// Resources with the hashes of their names.
    pub(crate) names: Vec<HashTable<(u32, u32)>>,
    pub(crate) resources: Slab<Resource>,
    pub(crate) locks: Slab<Lock>,
    pub(crate) sides: Slab<Side>,
    pub(crate) extras: Slab<Extra>,
    /// The extents of all locks that have one.
    pub(crate) nodes: Slab<Node>,
    pub(crate) long_names: Slab<Box<[u8]>>,
    pub(crate) spaces: Spaces,
    pub(crate) owners: Owners,
    pub(crate) nest: Nest,
    /// Whose an orphan was.
    pub(crate) labels: BTreeMap<u32, Option<SessionId>>,
    pub(crate) deadlines: BTreeSet<(Time, u32)>,
    pub(crate) tickets: u64,
    pub(crate) granted: u64,
    pub(crate) converting: u64,
    pub(crate) waiting: u64,
    /// Locks with PERSISTENT, orphans included ([ORPHAN-6]).
    pub(crate) persistent: u32,
    /// The slots in which nothing new is granted, `None` for none.
    pub(crate) frozen: Option<Box<SlotSet>>,
    /// Resources whose value block came to be in doubt while their slot is frozen. Some may be gone, or no longer in doubt.
    pub(crate) doubted: Vec<u32>,
    pub(crate) slot_seed: u64,
    /// Resources of persistent lockspaces of which something changed.
    pub(crate) touched: Vec<(SpaceId, Box<[u8]>)>,
    pub(crate) watching: bool,
    pub(crate) grant_times: GrantTimes,
}

/// The lockspaces: looked up by id, used by a small index.
pub(crate) struct Spaces {
    ids: Vec<(SpaceId, u16)>,
    all: Vec<Option<SpaceEntry>>,
}

pub(crate) struct SpaceEntry {
    pub(crate) id: SpaceId,
    pub(crate) space: Space,
    pub(crate) value_bytes: u32,
    /// The modes of ALTPR and ALTCW, where the table has them.
    pub(crate) alternatives: [Option<Mode>; 2],
    pub(crate) null: Option<Mode>,
}

impl Spaces {
    pub(crate) fn find(&self, id: SpaceId) -> Option<u16> {
        let place = self.ids.binary_search_by_key(&id, |(i, _)| *i).ok()?;
        self.ids.get(place).map(|(_, index)| *index)
    }

    pub(crate) fn get(&self, index: u16) -> Option<&SpaceEntry> {
        self.all.get(usize::from(index))?.as_ref()
    }
}

/// One call: when it is, where effects go, whose request it serves, what may have closed a cycle.
pub(crate) struct Call<'a> {
    pub(crate) now: Time,
    pub(crate) fx: &'a mut Vec<Effect>,
    /// The lock whose grant or refusal is the answer of the call, and no effect.
    pub(crate) caller: u32,
    pub(crate) answer: Option<Result<Outcome, Refusal>>,
    /// Locks through which a new cycle of waits may run, with their generation.
    pub(crate) suspects: Vec<(u32, u32)>,
    /// Locks of lockspaces that prevent cycles, from or to which new edges may lead, with their generation.
    pub(crate) joints: Vec<(u32, u32)>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(now: Time, fx: &'a mut Vec<Effect>) -> Call<'a> {
        Call { now, fx, caller: NIL, answer: None, suspects: Vec::new(), joints: Vec::new() }
    }
}

impl Table {
    /// An empty table. `epoch` goes into every token; `seed` only seeds the hash of names, and should not be guessable.
    #[must_use]
    pub fn new(limits: Limits, epoch: u32, seed: u64) -> Table {
        #[cfg(feature = "planted")]
        let epoch =
            if lockstead_types::planted::is(lockstead_types::planted::Bug::TokenReuse) { epoch.min(1) } else { epoch };
        Table {
            limits,
            epoch: epoch.min(Token::EPOCH_MAX),
            sequence: 0,
            hasher: FixedState::with_seed(seed),
            names: (0..INDEXES).map(|_| HashTable::new()).collect(),
            resources: Slab::new(),
            locks: Slab::new(),
            sides: Slab::new(),
            extras: Slab::new(),
            nodes: Slab::new(),
            long_names: Slab::new(),
            spaces: Spaces { ids: Vec::new(), all: Vec::new() },
            owners: Owners::new(),
            nest: Nest::default(),
            labels: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            tickets: first_ticket(epoch),
            granted: 0,
            converting: 0,
            waiting: 0,
            persistent: 0,
            frozen: None,
            doubted: Vec::new(),
            slot_seed: 0,
            touched: Vec::new(),
            watching: false,
            grant_times: GrantTimes::new(),
        }
    }

    /// The limits it keeps.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Adds a lockspace. One that is there already keeps its state; beyond 65,535 lockspaces nothing is added, and
    /// requests in it are refused `no-lockspace`.
    pub fn add_space(&mut self, id: SpaceId, space: Space) {
        let Err(place) = self.spaces.ids.binary_search_by_key(&id, |(i, _)| *i) else { return };
        let free = self.spaces.all.iter().position(Option::is_none).unwrap_or(self.spaces.all.len());
        let Ok(index) = u16::try_from(free) else { return };
        let value_bytes = if space.value_bytes == 0 { self.limits.value_bytes } else { space.value_bytes };
        let entry = SpaceEntry {
            id,
            value_bytes: value_bytes.min(lockstead_types::limits::VALUE_BYTES_CEILING),
            alternatives: [space.modes.parse("PR"), space.modes.parse("CW")],
            null: space.modes.null(),
            space,
        };
        if free == self.spaces.all.len() {
            self.spaces.all.push(Some(entry));
        } else {
            self.spaces.all[free] = Some(entry);
        }
        self.spaces.ids.insert(place, (id, index));
    }

    /// A lockspace.
    #[must_use]
    pub fn space(&self, id: SpaceId) -> Option<&Space> {
        self.spaces.get(self.spaces.find(id)?).map(|e| &e.space)
    }

    /// Drops a lockspace with all that is in it. Waiting requests end with `no-lockspace`, holders are told `Revoked`.
    ///
    /// # Errors
    /// `NoLockspace`; `Busy` where locks are there and not `force`.
    pub fn drop_space(&mut self, now: Time, id: SpaceId, force: bool, fx: &mut Vec<Effect>) -> Result<(), Refusal> {
        let index = self.spaces.find(id).ok_or(Refusal::NoLockspace)?;
        let inside = |r: &u32| !self.resources[*r].is_vacant() && self.resources[*r].space == index;
        let inside: Vec<u32> = (0..self.resources.places()).filter(inside).collect();
        if !force && inside.iter().any(|r| !self.resources[*r].is_empty()) {
            return Err(Refusal::Busy);
        }
        let mut call = Call::new(now, fx);
        for resource in inside {
            self.revoke_all(&mut call, resource);
            // One that outlives its locks during a freeze.
            if !self.resources[resource].is_vacant() {
                self.free_resource(resource);
            }
        }
        self.spaces.all[usize::from(index)] = None;
        self.spaces.ids.retain(|(i, _)| *i != id);
        Ok(())
    }

    /// Adds an owner.
    pub fn add_owner(&mut self) -> OwnerId {
        OwnerId(self.owners.add())
    }

    /// Locks of an owner, held or not; 0 for one that is not there.
    #[must_use]
    pub fn owner_locks(&self, owner: OwnerId) -> u32 {
        self.owners.find(owner).map_or(0, |o| o.locks)
    }

    /// Says which session an owner is, so that a purge can find its orphans.
    pub fn set_owner_label(&mut self, owner: OwnerId, session: SessionId) {
        if let Some(owner) = self.owners.find_mut(owner) {
            owner.label = Some(session);
        }
    }

    /// The newest token given, [`Token::NONE`] before the first; a higher one that was never given after
    /// [`Table::set_epoch`] or [`Table::raise_sequence`].
    #[must_use]
    pub fn last_token(&self) -> Token {
        if self.sequence == 0 { Token::NONE } else { Token::new(self.epoch, self.sequence).unwrap_or(Token::NONE) }
    }

    /// Goes on in a later epoch: every token from here on is of it. An epoch that is not later changes nothing. The
    /// sequence goes on, so tokens rise whoever looks at them ([TOKEN-1]).
    pub fn set_epoch(&mut self, epoch: u32) {
        #[cfg(feature = "planted")]
        if lockstead_types::planted::is(lockstead_types::planted::Bug::TokenEpochStays) {
            return;
        }
        self.epoch = self.epoch.max(epoch.min(Token::EPOCH_MAX));
        // [SLOT-6] What comes from now on comes after all that ever waited under a master of an earlier epoch.
        self.tickets = self.tickets.max(first_ticket(self.epoch));
    }

    /// The sequence number of the newest token, or one as high that was seen.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Notes the sequence number of another node: tokens given from here on are above it ([TOKEN-5]). One near the end of the
    /// numbers is ignored, and leaves at least 2^32 of them.
    pub fn raise_sequence(&mut self, seen: u64) {
        // [TOKEN-5] A jump can be a lie: it must not use up the epoch.
        if seen <= Token::SEQUENCE_MAX - SEQUENCE_RESERVE {
            self.sequence = self.sequence.max(seen);
        }
    }

    /// Leaves so many tokens in the epoch: what is decided when they run out could not be tried otherwise.
    pub fn use_up_tokens_but(&mut self, left: u64) {
        self.sequence = self.sequence.max(Token::SEQUENCE_MAX.saturating_sub(left));
    }

    /// Whether to report every change of every lock.
    pub fn set_watching(&mut self, on: bool) {
        self.watching = on;
    }

    /// What is there now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            resources: u64::from(self.resources.used()),
            granted: self.granted,
            converting: self.converting,
            waiting: self.waiting,
            orphans: self.labels.len() as u64,
            owners: self.owners.count(),
        }
    }

    /// [TOKEN-4] Whether the epoch has no token left; then nothing can be granted.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.sequence >= Token::SEQUENCE_MAX
    }

    /// [TOKEN-1] The next token: one above every token of this epoch.
    pub(crate) fn next_token(&mut self, now: Time) -> Token {
        // [TOKEN-1] No number is given twice, and none goes back.
        debug_assert!(!self.is_exhausted());
        self.sequence += 1;
        self.grant_times.note(self.sequence, now);
        Token::new(self.epoch, self.sequence).unwrap_or(Token::NONE)
    }

    pub(crate) fn space_of(&self, resource: u32) -> &SpaceEntry {
        let index = usize::from(self.resources[resource].space);
        self.spaces.all[index].as_ref().expect("a lockspace is dropped only after its resources")
    }

    pub(crate) fn modes_of(&self, resource: u32) -> &ModeTable {
        &self.space_of(resource).space.modes
    }
}

/// Tickets of an epoch are above all of the epochs before it, as tokens are: those who waited under an earlier master stand
/// before those who come to the next ([SLOT-6]).
pub(crate) fn first_ticket(epoch: u32) -> u64 {
    u64::from(epoch.min(Token::EPOCH_MAX)) << Token::SEQUENCE_BITS
}
