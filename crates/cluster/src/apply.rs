//! Applying a command: members, the slot map, the epoch. Lockspaces and sessions are in `directory.rs`.
//!
//! This is the one place where the agreed state changes. A command is looked at whole before anything is written, so a
//! refused one has changed nothing but [`State::version`], which counts commands and is therefore the same on all nodes.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec,
    vec::Vec,
};

use lockstead_types::{
    NodeId, Slot, SpaceId, Token,
    peer::{HomeGeneration, Incarnation, SlotGeneration},
    slot::SLOTS,
    space::SpaceSpec,
};

use crate::{
    command::{Change, Command, Refused, Seat},
    spread::fill,
    state::{Member, MemberState, PlaceWhy, SlotEntry, State},
};

/// Members a cluster may have.
pub const MEMBERS: usize = 1_024;
/// Bytes of an address.
pub const ADDRESS_BYTES: usize = 256;
/// The largest weight of a member.
pub const WEIGHT: u32 = 1_000;

impl State {
    /// Applies the next command of the log.
    ///
    /// # Errors
    ///
    /// Refused: it changed nothing but the version.
    pub fn apply(&mut self, command: &Command) -> Result<Vec<Change>, Refused> {
        self.version += 1;
        match command {
            Command::Form { seed, key, seats, spaces } => self.form(*seed, key, seats, spaces),
            _ if !self.is_formed() => Err(Refused::Formed),
            Command::Admit { seat } => self.admit(seat),
            Command::Start { node, identity, nonce, after, peer_address, client_address } => {
                self.start(*node, *identity, (*nonce, *after), [peer_address, client_address])
            }
            Command::Evict { node, incarnation } => self.evict(*node, *incarnation),
            Command::Drain { node, incarnation } => self.drain(*node, *incarnation),
            Command::Remove { node } => self.remove(*node),
            Command::Move { slots } => self.move_slots(slots),
            Command::OpenSession { session, home, incarnation, ttl, principal, local } => {
                let entry = crate::state::SessionEntry {
                    home: *home,
                    incarnation: *incarnation,
                    // Never one that this session had before: a node where it was opened first, and which never heard
                    // that it was, ends what it has there, and must not end what was opened elsewhere meanwhile.
                    generation: HomeGeneration(self.version as u32),
                    ttl: *ttl,
                    principal: principal.clone(),
                    local: *local,
                };
                self.open_session(*session, entry)
            }
            Command::RehomeSession { session, from, home, incarnation } => {
                self.rehome_session(*session, *from, *home, *incarnation)
            }
            Command::EndSession { session, home, why } => self.end_session(*session, *home, *why),
            Command::CreateSpace { spec, nonce } => self.create_space(spec, *nonce),
            Command::DropSpace { space, force: true } => self.drop_space(*space),
            Command::DropSpace { space, force: false } => self.close_space(*space),
            Command::Pin { slot, node } => self.pin(*slot, *node),
            Command::Unpin { slot } => self.unpin(*slot),
            Command::Weigh { node, weight } => self.weigh(*node, *weight),
            Command::Attract { slots } => self.attract(slots),
            Command::Forsake { slots } => self.forsake(slots),
            Command::Keep { space, slot, generation, order, name, kept } => {
                self.keep(*space, *slot, (*generation, *order), name, kept)
            }
            Command::RaiseEpoch { by } => {
                self.raise_epoch(*by)?;
                self.doubt_kept();
                Ok(vec![Change::Epoch { moved: Vec::new() }])
            }
        }
    }

    fn form(
        &mut self,
        seed: u64,
        key: &[u8; 32],
        seats: &[Seat],
        spaces: &[SpaceSpec],
    ) -> Result<Vec<Change>, Refused> {
        if self.is_formed() {
            return Err(Refused::Formed);
        }
        let nodes: BTreeSet<NodeId> = seats.iter().map(|seat| seat.node).collect();
        if nodes.len() != seats.len() {
            return Err(Refused::Exists);
        }
        if seats.len() > MEMBERS {
            return Err(Refused::Full);
        }
        if seats.iter().all(|seat| seat.weight == 0) {
            return Err(Refused::Last);
        }
        seats.iter().try_for_each(check_seat)?;
        let spaces = plan_spaces(spaces)?;

        self.seed = seed;
        self.key = *key;
        self.newest_space = spaces.keys().map(|space| space.0).max().unwrap_or(0);
        self.spaces = spaces;
        self.members = seats.iter().map(|seat| (seat.node, seated(seat, Incarnation(0), 0))).collect();
        // [`fill`] gives the slots one after another to whoever has the fewest, so neighbours in the map are apart.
        let mut shares = seats.iter().map(|seat| (seat.node, (0, seat.weight))).collect();
        let masters = fill(&mut shares, SLOTS);
        self.slots = masters
            .into_iter()
            .map(|master| SlotEntry { master, incarnation: Incarnation(0), generation: SlotGeneration(1) })
            .collect();
        self.epoch = 1;
        Ok(vec![Change::Epoch { moved: Vec::new() }])
    }

    fn admit(&mut self, seat: &Seat) -> Result<Vec<Change>, Refused> {
        check_seat(seat)?;
        let (incarnation, nonce) = match self.members.get(&seat.node) {
            // Who is up may have authority, and its peers know it by what was admitted.
            Some(member) if member.state != MemberState::Down => return Err(Refused::Exists),
            Some(member) if *member == seated(seat, member.incarnation, member.nonce) => return Ok(Vec::new()),
            Some(_) if seat.weight == 0 && self.slots.iter().any(|slot| slot.master == seat.node) => {
                return Err(Refused::InUse);
            }
            Some(member) if member.identity == seat.identity => (member.incarnation, member.nonce),
            // Other data: it knows of no start.
            Some(member) => (member.incarnation, 0),
            None if self.members.len() >= MEMBERS => return Err(Refused::Full),
            // [MEMBER-3] A number that comes back goes on counting: an incarnation never comes back.
            None => (self.retired.get(&seat.node).copied().unwrap_or_default(), 0),
        };
        self.raise_epoch(1)?;
        self.retired.remove(&seat.node);
        if seat.weight == 0 {
            self.places.retain(|_, place| place.node != seat.node);
        }
        self.members.insert(seat.node, seated(seat, incarnation, nonce));
        Ok(vec![Change::Epoch { moved: Vec::new() }])
    }

    fn start(
        &mut self,
        node: NodeId,
        identity: u128,
        (nonce, after): (u64, u64),
        [peer_address, client_address]: [&String; 2],
    ) -> Result<Vec<Change>, Refused> {
        let member = self.members.get(&node).ok_or(Refused::Unknown)?;
        // [MEMBER-4]
        if member.identity != identity {
            return Err(Refused::Outdated);
        }
        if member.incarnation != Incarnation(0) && member.nonce == nonce {
            // [MEMBER-3] A repeated command, perhaps of a start that was evicted meanwhile: it must not come back to life.
            return Ok(Vec::new());
        }
        // [MEMBER-4] Data from before the newest start has forgotten what the node promised since.
        if member.nonce != after {
            return Err(Refused::Outdated);
        }
        if peer_address.len().max(client_address.len()) > ADDRESS_BYTES {
            return Err(Refused::Invalid);
        }
        let next = member.incarnation.0.checked_add(1).ok_or(Refused::Full)?;
        self.raise_epoch(1)?;
        self.places.retain(|_, place| place.why == PlaceWhy::Pinned || place.node != node);
        if let Some(member) = self.members.get_mut(&node) {
            member.incarnation = Incarnation(next);
            member.nonce = nonce;
            member.state = MemberState::Up;
            for (mine, new) in [(&mut member.peer_address, peer_address), (&mut member.client_address, client_address)]
            {
                if !new.is_empty() {
                    mine.clone_from(new);
                }
            }
        }
        Ok(vec![Change::Epoch { moved: self.inherit() }])
    }

    fn evict(&mut self, node: NodeId, incarnation: Incarnation) -> Result<Vec<Change>, Refused> {
        self.living(node, incarnation)?;
        self.raise_epoch(1)?;
        if let Some(member) = self.members.get_mut(&node) {
            member.state = MemberState::Down;
        }
        Ok(vec![Change::Epoch { moved: self.inherit() }])
    }

    fn drain(&mut self, node: NodeId, incarnation: Incarnation) -> Result<Vec<Change>, Refused> {
        if self.living(node, incarnation)?.state == MemberState::Draining {
            return Ok(Vec::new());
        }
        let masters = self.masters().filter(|(other, _)| *other != node).count();
        if masters == 0 && self.slots.iter().any(|slot| slot.master == node) {
            return Err(Refused::Last);
        }
        self.raise_epoch(1)?;
        if let Some(member) = self.members.get_mut(&node) {
            member.state = MemberState::Draining;
        }
        self.forget_uses();
        Ok(vec![Change::Epoch { moved: Vec::new() }])
    }

    fn remove(&mut self, node: NodeId) -> Result<Vec<Change>, Refused> {
        let member = self.members.get(&node).ok_or(Refused::Unknown)?;
        // Only a node that is down has certainly stopped to act: it was evicted after its authority, or with its consent.
        if member.state != MemberState::Down || self.slots.iter().any(|slot| slot.master == node) {
            return Err(Refused::InUse);
        }
        let incarnation = member.incarnation;
        self.raise_epoch(1)?;
        self.members.remove(&node);
        self.places.retain(|_, place| place.node != node);
        self.retired.insert(node, incarnation);
        Ok(vec![Change::Epoch { moved: Vec::new() }])
    }

    fn move_slots(&mut self, slots: &[(Slot, SlotGeneration, NodeId)]) -> Result<Vec<Change>, Refused> {
        let moves = self.plan_moves(slots)?;
        self.raise_epoch(1)?;
        Ok(vec![Change::Epoch { moved: moves.into_iter().filter_map(|(slot, to)| self.give(slot, to)).collect() }])
    }

    /// Slots that may change their master as they were seen, or none.
    pub(crate) fn plan_moves(&self, slots: &[(Slot, SlotGeneration, NodeId)]) -> Result<Vec<(Slot, NodeId)>, Refused> {
        let distinct: BTreeSet<Slot> = slots.iter().map(|(slot, ..)| *slot).collect();
        if slots.is_empty() || distinct.len() != slots.len() {
            return Err(Refused::Invalid);
        }
        let mut moves = Vec::with_capacity(slots.len());
        for (slot, generation, to) in slots {
            let now = self.master(*slot).ok_or(Refused::Unknown)?;
            let member = self.members.get(to).ok_or(Refused::Unknown)?;
            if now.generation != *generation || member.state != MemberState::Up {
                return Err(Refused::Outdated);
            }
            if member.weight == 0 || (now.master, now.incarnation) == (*to, member.incarnation) {
                return Err(Refused::Invalid);
            }
            moves.push((*slot, *to));
        }
        Ok(moves)
    }

    /// [MEMBER-5] Gives each slot whose master is gone to one that is up. Slots of a seat that has never started wait for it: nobody
    /// has anything there yet. With nobody up to take them, slots keep their dead master until somebody starts.
    fn inherit(&mut self) -> Vec<(Slot, NodeId, Incarnation)> {
        let mut shares = self.shares();
        let roster = self.roster();
        let free = |now: &SlotEntry| !roster.is_up(now) && !roster.awaits(now);
        let free: Vec<Slot> = Slot::all().filter(|slot| self.master(*slot).is_some_and(|now| free(&now))).collect();
        self.forget_uses();
        // [MEMBER-12] What belongs to one that is up goes there at once.
        let (placed, rest): (Vec<Slot>, Vec<Slot>) = free.into_iter().partition(|slot| self.place(*slot).is_some());
        let mut heirs: Vec<(Slot, NodeId)> = Vec::with_capacity(placed.len() + rest.len());
        heirs.extend(placed.into_iter().filter_map(|slot| Some((slot, self.place(slot)?))));
        for (_, to) in &heirs {
            if let Some((slots, _)) = shares.get_mut(to) {
                *slots += 1;
            }
        }
        let takers = fill(&mut shares, rest.len());
        heirs.extend(rest.into_iter().zip(takers));
        heirs.into_iter().filter_map(|(slot, to)| self.give(slot, to)).collect()
    }

    /// Makes a member master of a slot. Gives the slot, and who had it.
    pub(crate) fn give(&mut self, slot: Slot, to: NodeId) -> Option<(Slot, NodeId, Incarnation)> {
        let incarnation = self.members.get(&to)?.incarnation;
        let entry = self.slots.get_mut(usize::from(slot.0))?;
        let was = (slot, entry.master, entry.incarnation);
        // A generation counts changes of one slot, each of which raised the epoch, which is smaller.
        let generation = SlotGeneration(entry.generation.0.saturating_add(1));
        *entry = SlotEntry { master: to, incarnation, generation };
        Some(was)
    }

    fn living(&self, node: NodeId, incarnation: Incarnation) -> Result<&Member, Refused> {
        let member = self.members.get(&node).ok_or(Refused::Unknown)?;
        if self.is_up(node, incarnation) { Ok(member) } else { Err(Refused::Outdated) }
    }

    pub(crate) fn raise_epoch(&mut self, by: u32) -> Result<(), Refused> {
        let epoch = self.epoch.checked_add(by).filter(|epoch| *epoch <= Token::EPOCH_MAX).ok_or(Refused::Full)?;
        self.epoch = epoch;
        Ok(())
    }
}

fn seated(seat: &Seat, incarnation: Incarnation, nonce: u64) -> Member {
    Member {
        identity: seat.identity,
        incarnation,
        nonce,
        state: MemberState::Down,
        weight: seat.weight,
        peer_address: seat.peer_address.clone(),
        client_address: seat.client_address.clone(),
    }
}

fn check_seat(seat: &Seat) -> Result<(), Refused> {
    let addresses = seat.peer_address.len().max(seat.client_address.len());
    if addresses > ADDRESS_BYTES || seat.weight > WEIGHT { Err(Refused::Invalid) } else { Ok(()) }
}

/// Numbers the first lockspaces; `default` is 0.
fn plan_spaces(specs: &[SpaceSpec]) -> Result<BTreeMap<SpaceId, SpaceSpec>, Refused> {
    let mut spaces = BTreeMap::from([(SpaceId(0), SpaceSpec::named(crate::directory::DEFAULT))]);
    let mut names = BTreeSet::new();
    let mut newest = 0;
    for spec in specs {
        crate::directory::check_spec(spec)?;
        if !names.insert(&spec.name) {
            return Err(Refused::Exists);
        }
        if spec.name == crate::directory::DEFAULT {
            spaces.insert(SpaceId(0), spec.clone());
        } else {
            newest += 1;
            spaces.insert(SpaceId(newest), spec.clone());
        }
    }
    if spaces.len() > crate::directory::SPACES { Err(Refused::Full) } else { Ok(spaces) }
}
