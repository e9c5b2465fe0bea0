//! Sessions of other homes at this master, and of this node's own: whose locks the table has.
//!
//! A guest is an owner of the table. Its requests come as messages of its home, and what the table says to them goes back
//! there. It stays while its session is in the directory, also when its home is gone: then nobody is told anything until
//! the session has come to another home and claimed what it has.

use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    vec::Vec,
};

use lockstead_table::{Effect, Ending, Outcome, OwnerId};
use lockstead_types::{
    Flags, LockId, NodeId, RequestId, SessionId, Slot, SlotSet, Time, Token,
    message::Reclaim,
    peer::{HomeGeneration, OwnedClaim, PeerMessage, PeerOp, SlotGeneration},
    refusal::Refusal,
    reply::{Grant, Notice, Queued, Reply, Value},
    report::Meta,
    request::{ConvertRequest, ReleaseRequest, Stood, Target},
    rows::LockReport,
};

use super::{early::Early, probes::Stuck};
use crate::{
    authorize::{self, Decision},
    effects::WaitEnd,
    node::Node,
    owners::Whose,
    principal::Principal,
    slab::Slab,
};

/// So many earlier tokens of a lock are kept.
const EARLIER: usize = 8;

/// All guests.
pub(crate) struct Guests {
    slab: Slab<Guest>,
    by_id: BTreeMap<SessionId, u32>,
}

/// A session whose locks are here.
pub(crate) struct Guest {
    pub(crate) session: SessionId,
    pub(crate) home: NodeId,
    pub(crate) generation: HomeGeneration,
    pub(crate) owner: OwnerId,
    pub(crate) meta: Meta,
    /// What waits, by request.
    pub(crate) waits: BTreeMap<RequestId, GuestWait>,
    /// What waited under an earlier home and was not said again under this one yet.
    pub(crate) left: BTreeMap<Place, (RequestId, LockId)>,
    /// The last grants to those that waited: a home that died has not told its client.
    pub(crate) unheard: VecDeque<(Place, Grant)>,
    /// Locks from under an earlier home that were not claimed under this one yet.
    pub(crate) unclaimed: BTreeSet<LockId>,
    /// Whether it has claimed all it has under this home.
    claimed: bool,
    /// The tokens locks had before conversions of which the client may not have heard.
    earlier: BTreeMap<LockId, Vec<Token>>,
    /// What it has waited for for long, as its home said last.
    pub(crate) stuck: Option<Stuck>,
    /// The groups of which it uses locks here, or waits for some.
    pub(crate) groups: BTreeSet<u32>,
}

/// A wait of a guest.
#[derive(Copy, Clone)]
pub(crate) struct GuestWait {
    pub(crate) lock: LockId,
    pub(crate) slot: Slot,
    pub(crate) ticket: u64,
}

/// A slot, and a ticket there: one wait for as long as there is one, whoever masters the slot.
pub(crate) type Place = (Slot, u64);

impl Guest {
    /// Whether a lock from under an earlier home is still to be claimed under this one.
    pub(crate) fn is_to_claim(&self, lock: LockId) -> bool {
        self.unclaimed.contains(&lock)
    }

    pub(crate) fn has_claimed(&self) -> bool {
        self.claimed
    }
}

impl Guests {
    /// Under which home a session is a guest.
    pub(crate) fn generation_of(&self, session: SessionId) -> Option<HomeGeneration> {
        self.slab.get(*self.by_id.get(&session)?).map(|guest| guest.generation)
    }

    pub(crate) fn new() -> Guests {
        Guests { slab: Slab::new(), by_id: BTreeMap::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(crate) fn find(&self, session: SessionId) -> Option<u32> {
        self.by_id.get(&session).copied()
    }

    pub(crate) fn get(&self, at: u32) -> Option<&Guest> {
        self.slab.get(at)
    }

    pub(crate) fn get_mut(&mut self, at: u32) -> Option<&mut Guest> {
        self.slab.get_mut(at)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Guest)> {
        self.slab.iter()
    }

    /// Forgets the earlier tokens of a lock that has gone to another master.
    pub(crate) fn forget_tokens(&mut self, at: u32, lock: LockId) {
        if let Some(guest) = self.slab.get_mut(at) {
            guest.earlier.remove(&lock);
        }
    }

    /// Forgets the waits in slots that are gone.
    pub(crate) fn forget_waits(&mut self, slots: &SlotSet) {
        for at in self.by_id.values() {
            if let Some(guest) = self.slab.get_mut(*at) {
                guest.waits.retain(|_, wait| !slots.has(wait.slot));
                guest.left.retain(|(slot, _), _| !slots.has(*slot));
                guest.unheard.retain(|((slot, _), _)| !slots.has(*slot));
            }
        }
    }
}

impl Node {
    /// A home says who a session is.
    pub(crate) fn on_introduce(
        &mut self,
        now: Time,
        from: NodeId,
        (session, home, version): (SessionId, HomeGeneration, u64),
        meta: Meta,
    ) {
        let Some(member) = &mut self.member else { return };
        if let Some(at) = member.guests.find(session)
            && let Some(guest) = member.guests.get_mut(at)
        {
            // [CLUSTER-9] Only a newer home takes over; what it does not claim is given back when it has claimed all.
            if guest.generation < home {
                guest.unclaimed = self.table.owner_lock_ids(guest.owner).collect();
                let memberships = guest.groups.iter().filter_map(|group| self.groups.map.get(group)?.members.get(&at));
                guest.unclaimed.extend(memberships.flat_map(crate::groups::Membership::locks));
                let (owner, untold) = (guest.owner, guest.leave_waits());
                guest.stuck = None;
                guest.claimed = false;
                (guest.home, guest.generation, guest.meta) = (from, home, meta);
                self.drop_guest_watches(at);
                self.end_untold(now, at, untold);
                self.forget_age_of_former(now, owner);
            }
            return;
        }
        match member.state.sessions.get(&session) {
            // [CLUSTER-8] An older home is not heard.
            Some(entry) if entry.generation > home => return,
            Some(_) => {}
            // [CLUSTER-19] Its home had not applied the end of the session yet.
            None if version <= member.state.version => return,
            None => {
                member.strangers.insert((version, session));
            }
        }
        let owner = self.table.add_owner();
        self.table.set_owner_label(owner, session);
        let (waits, unclaimed) = (BTreeMap::new(), BTreeSet::new());
        let guest = Guest {
            session,
            home: from,
            generation: home,
            owner,
            meta,
            waits,
            left: BTreeMap::new(),
            unheard: VecDeque::new(),
            unclaimed,
            claimed: false,
            earlier: BTreeMap::new(),
            stuck: None,
            groups: BTreeSet::new(),
        };
        let Some(at) = member.guests.slab.insert(guest) else { return };
        member.guests.by_id.insert(session, at);
        self.owners.set(owner, Whose::Guest(at));
        self.guest_stands_within(now, at);
    }

    /// [DEAD-13] The same among guests: where both sessions have come to this master.
    fn guest_stands_within(&mut self, now: Time, at: u32) {
        let Some(member) = &self.member else { return };
        let Some(inner) = member.guests.get(at) else { return };
        let Some(outer) = inner.meta.within.and_then(|id| member.guests.find(id)).and_then(|at| member.guests.get(at))
        else {
            return;
        };
        let principal =
            |guest: &Guest| member.state.sessions.get(&guest.session).map(|s| Principal::parse(&s.principal));
        let (Some(mine), Some(its)) = (principal(inner), principal(outer)) else { return };
        if authorize::decide_within(&mine, &its) == Decision::Allow {
            let (inner, outer) = (inner.owner, outer.owner);
            self.table.set_outer(now, inner, outer, &mut self.fx);
            self.tell_effects(now);
        }
    }

    /// A request of a session to this master.
    pub(crate) fn on_peer_request(&mut self, now: Time, request: Early) {
        let Early { from, key: (session, home, id), place: (slot, generation), .. } = request;
        // [CLUSTER-4] Only the master of the slot, under the generation the asker knows, decides.
        if !self.masters(slot, generation) {
            return self.send_peer(now, from, PeerMessage::Stale { session, home, id, generation });
        }
        let Some(Early { op, stood, .. }) = self.set_aside(request) else { return };
        let Some(at) = self.guest_of(session, home) else { return };
        self.note_use(now, from, slot, &op);
        if let Some(stood) = stood
            && self.goes_on(now, (at, id), (slot, generation), stood, &op)
        {
            return self.tell_effects(now);
        }
        match &op {
            PeerOp::Lock(lock) => {
                let Some(owner) = self.guest_owner(at) else { return };
                let outcome = match lock.owner.group() {
                    Some(group) => self.lock_in_group(now, (at, id), group, lock),
                    None => self.table.lock(now, owner, id.0, &lock.request(), &mut self.fx),
                };
                self.on_guest_outcome(now, (at, id), (slot, generation), outcome, stood);
            }
            PeerOp::Convert { lock, mode, wait, flags, value } => {
                let Some(owner) = self.guest_owner(at) else { return };
                let request =
                    ConvertRequest { lock: *lock, mode: *mode, wait: *wait, flags: *flags, value: value.as_deref() };
                let outcome = if let Some(group) = self.groups.having(at, *lock) {
                    self.try_group_convert(now, (at, id), group, &request)
                } else {
                    self.note_earlier(at, *lock);
                    self.table.convert(now, owner, id.0, &request, &mut self.fx)
                };
                self.on_guest_outcome(now, (at, id), (slot, generation), outcome, stood);
            }
            PeerOp::Release { lock, flags, value, one_way } => {
                let Some(owner) = self.guest_owner(at) else { return };
                let release = ReleaseRequest { lock: *lock, flags: *flags, value: value.as_deref() };
                let released = match self.groups.having(at, *lock) {
                    Some(group) => self.release_group_use(now, at, group, &release),
                    None => self.table.release(now, owner, &release, &mut self.fx),
                };
                let reply = match released {
                    Ok(()) => {
                        if let Some(guest) = self.member.as_mut().and_then(|m| m.guests.get_mut(at)) {
                            guest.earlier.remove(lock);
                        }
                        Reply::Released
                    }
                    Err(why) => Reply::Refused(why),
                };
                if !*one_way {
                    self.reply_guest(now, at, id, (slot, generation), reply);
                }
            }
            PeerOp::Cancel(target) => {
                let reply = match self.cancel_guest(now, at, *target) {
                    Ok(()) => Reply::Cancelled,
                    Err(why) => Reply::Refused(why),
                };
                self.reply_guest(now, at, id, (slot, generation), reply);
            }
            PeerOp::ReadValue(lock) => {
                let Some(owner) = self.guest_owner(at) else { return };
                let reply = self.read_for_guest(at, owner, *lock).map_or_else(Reply::Refused, Reply::Value);
                self.reply_guest(now, at, id, (slot, generation), reply);
            }
        }
        self.tell_effects(now);
    }

    fn on_guest_outcome(
        &mut self,
        now: Time,
        (at, id): (u32, RequestId),
        (slot, generation): (Slot, SlotGeneration),
        outcome: Result<Outcome, Refusal>,
        stood: Option<Stood>,
    ) {
        let granted = outcome.as_ref().ok().and_then(|outcome| match outcome {
            Outcome::Granted(grant) => Some(grant.lock),
            Outcome::Queued(_) | Outcome::Demoted { .. } => None,
        });
        let reply = match outcome {
            Ok(Outcome::Granted(grant)) => Reply::Granted(grant),
            Ok(Outcome::Queued(lock)) => {
                let again = stood.and_then(|stood| self.table.stand_again(now, lock, stood));
                // One that joins in what its group has waits in no queue.
                let known = again.or_else(|| self.table.ticket_of(lock)).or(stood.map(|stood| stood.ticket));
                let ticket = known.unwrap_or_default();
                if let Some(guest) = self.member.as_mut().and_then(|m| m.guests.get_mut(at)) {
                    guest.waits.insert(id, GuestWait { lock, slot, ticket });
                }
                Reply::Queued(Queued { lock, ticket })
            }
            Ok(Outcome::Demoted { held, why }) => Reply::Demoted { held, why: Some(why) },
            Err(why) => Reply::Refused(why),
        };
        self.reply_guest(now, at, id, (slot, generation), reply);
        granted.into_iter().for_each(|lock| self.tell_newcomer(now, at, lock));
    }

    fn read_for_guest(&self, at: u32, owner: OwnerId, lock: LockId) -> Result<Value, Refusal> {
        match self.groups.having(at, lock) {
            Some(group) => self.read_group_value(at, group, lock),
            None => self.table.read_value(owner, lock),
        }
    }

    fn cancel_guest(&mut self, now: Time, at: u32, target: Target) -> Result<(), Refusal> {
        let guest = self.member.as_ref().and_then(|m| m.guests.get(at)).ok_or(Refusal::Lost)?;
        let lock = match target {
            Target::Lock(lock) => lock,
            Target::Request(request) => guest.waits.get(&request).ok_or(Refusal::NotHeld)?.lock,
        };
        let owner = guest.owner;
        match (self.groups.having(at, lock), target) {
            (Some(group), Target::Request(id)) => self.cancel_group_wait(now, at, group, lock, id),
            (Some(group), Target::Lock(_)) => self.cancel_group_waits(now, at, group, lock),
            (None, _) => self.table.cancel(now, owner, lock, &mut self.fx),
        }
    }

    /// A wait of a guest has ended.
    pub(crate) fn tell_guest_end(&mut self, now: Time, at: u32, id: RequestId, end: WaitEnd) {
        let Some(member) = &mut self.member else { return };
        let Some(guest) = member.guests.get_mut(at) else { return };
        let Some(slot) = guest.end_wait(id, &end) else { return };
        let Some(generation) = member.state.slots.get(usize::from(slot.0)).map(|s| s.generation) else { return };
        let reply = match end {
            WaitEnd::Granted(grant) => Reply::Granted(grant),
            WaitEnd::Refused(why) => Reply::Refused(why),
            WaitEnd::Cancelled => Reply::Cancelled,
            WaitEnd::Demoted { held, why } => Reply::Demoted { held, why },
        };
        self.reply_guest(now, at, id, (slot, generation), reply);
    }

    pub(crate) fn notify_guest(&mut self, now: Time, at: u32, notice: Notice) {
        let Some(guest) = self.member.as_ref().and_then(|m| m.guests.get(at)) else { return };
        let (session, home, to) = (guest.session, guest.generation, guest.home);
        #[cfg(feature = "planted")]
        if matches!(notice, Notice::Blocking { .. })
            && lockstead_types::planted::is(lockstead_types::planted::Bug::NoticeNotRelayed)
        {
            return;
        }
        let slot = self.slot_of_notice(&notice);
        self.tell_home(now, slot, to, PeerMessage::Notice { session, home, notice });
    }

    pub(crate) fn reply_guest(
        &mut self,
        now: Time,
        at: u32,
        id: RequestId,
        (slot, generation): (Slot, SlotGeneration),
        reply: Reply,
    ) {
        let Some(guest) = self.member.as_ref().and_then(|m| m.guests.get(at)) else { return };
        let (session, home, to) = (guest.session, guest.generation, guest.home);
        let slot = matches!(reply, Reply::Granted(_) | Reply::Released | Reply::Demoted { .. } | Reply::Value(_))
            .then_some(slot);
        self.tell_home(now, slot, to, PeerMessage::Reply { session, home, id, generation, reply });
    }

    /// A session ends: its locks here are released.
    pub(crate) fn end_guest(&mut self, now: Time, session: SessionId, ending: Ending) {
        let Some(member) = &mut self.member else { return };
        let Some(at) = member.guests.by_id.remove(&session) else { return };
        let Some(guest) = member.guests.slab.remove(at) else { return };
        self.drop_guest_watches(at);
        self.owners.set(guest.owner, Whose::Ended(session));
        for group in guest.groups {
            self.leave_group(now, at, group, ending);
        }
        self.table.end_owner(now, guest.owner, ending, &mut self.fx);
        self.tell_effects(now);
        self.owners.set(guest.owner, Whose::Nobody);
    }

    /// A session that came to another home claims a lock.
    pub(crate) fn on_peer_claim(
        &mut self,
        now: Time,
        from: NodeId,
        (session, home, id): (SessionId, HomeGeneration, RequestId),
        (slot, generation): (Slot, SlotGeneration),
        claim: &OwnedClaim,
    ) {
        let reply = if self.masters(slot, generation) {
            let Some(at) = self.guest_of(session, home) else { return };
            let Some(owner) = self.guest_owner(at) else { return };
            let token = self.newest_token(at, claim);
            let claim = Reclaim { token, ..claim.as_reclaim() };
            let claimed = match claim.group {
                Some(group) => self.reclaim_for_group(now, at, group, &claim),
                None => self.table.claim_in(now, owner, &claim, &mut self.fx),
            };
            if let (Ok(grant), Some(guest)) = (&claimed, self.member.as_mut().and_then(|m| m.guests.get_mut(at))) {
                guest.unclaimed.remove(&grant.lock);
            }
            Some(claimed.map_or_else(Reply::Refused, Reply::Granted))
        } else {
            None
        };
        self.send_peer(now, from, PeerMessage::Claimed { session, home, id, generation, reply });
        self.tell_effects(now);
    }

    /// Keeps the token a lock has before a conversion: until its client has heard of the new one it claims the lock with the old one.
    fn note_earlier(&mut self, at: u32, lock: LockId) {
        let Some(token) = self.table.token_of(lock) else { return };
        let Some(guest) = self.member.as_mut().and_then(|m| m.guests.get_mut(at)) else { return };
        let known = guest.earlier.entry(lock).or_default();
        if known.last() != Some(&token) {
            known.push(token);
            // Conversions of one lock follow each other, so few can be unheard of.
            if known.len() > EARLIER {
                known.remove(0);
            }
        }
    }

    /// [SLOT-8] A lock that has come here had another token before; and this one where it waits to be converted.
    ///
    /// Without this: a conversion is granted, and the client does not hear of it; its slot moves, and then the client goes to another
    /// home and claims with the token from before; this master finds no such lock, and the client is told that it has lost it.
    pub(crate) fn note_before(&mut self, at: u32, lock: LockId, row: &LockReport<'_>) {
        let now = if row.wanted.is_some() { row.token } else { Token::NONE };
        let earlier: Vec<Token> = [row.before, now].into_iter().filter(|token| *token != Token::NONE).collect();
        if let (false, Some(guest)) = (earlier.is_empty(), self.member.as_mut().and_then(|m| m.guests.get_mut(at))) {
            guest.earlier.insert(lock, earlier);
        }
    }

    /// The token a claimed lock has now. Locks on other resources may have had the same: each resource counts for itself.
    fn newest_token(&self, at: u32, claim: &OwnedClaim) -> Token {
        let guest = self.member.as_ref().and_then(|m| m.guests.get(at));
        let had = |(lock, tokens): &(&LockId, &Vec<Token>)| {
            tokens.contains(&claim.token) && self.table.is_lock_on(**lock, claim.space, &claim.name)
        };
        let lock = guest.and_then(|g| g.earlier.iter().find(had)).map(|(lock, _)| *lock);
        lock.and_then(|lock| self.table.token_of(lock)).unwrap_or(claim.token)
    }

    /// A session has claimed all it has: the rest was granted to nobody who knows, or given back already.
    pub(crate) fn on_claims_done(&mut self, now: Time, session: SessionId, home: HomeGeneration) {
        if let Some(at) = self.guest_of(session, home) {
            // [CLUSTER-9]
            let guest = self.member.as_mut().and_then(|m| m.guests.get_mut(at));
            let Some(guest) = guest else { return };
            guest.claimed = true;
            let (owner, rest) = (guest.owner, core::mem::take(&mut guest.unclaimed));
            let left = core::mem::take(&mut guest.left);
            // Conversions of locks that were claimed, nobody's any more.
            for (id, lock) in left.into_values() {
                match self.groups.having(at, lock) {
                    Some(group) => self.end_member_wait(now, at, group, lock, id, WaitEnd::Cancelled),
                    None if rest.contains(&lock) => {}
                    None => {
                        let _over_already = self.table.cancel(now, owner, lock, &mut self.fx);
                    }
                }
            }
            for lock in rest {
                match self.groups.having(at, lock) {
                    // Even beside others who use it: this one may have given it back with a value that reached nobody.
                    Some(group) => self.drop_uses(now, at, group, lock, Flags::FORCEUNLOCK.with(Flags::IVVALBLK)),
                    None => self.release_unclaimed(now, owner, lock),
                }
            }
            self.tidy_guest(now, at);
            self.tell_effects(now);
            self.repeat_guest_blocking(now, at);
        }
        // [CLUSTER-8] What it claimed at an earlier home says nothing once it has come to another.
        let known = self.member.as_ref().and_then(|m| m.state.sessions.get(&session)).map(|s| s.generation);
        if known.is_none_or(|known| known <= home) {
            self.on_session_reported(now, session);
        }
    }

    pub(crate) fn release_unclaimed(&mut self, now: Time, owner: OwnerId, lock: LockId) {
        let release = ReleaseRequest { lock, flags: Flags::FORCEUNLOCK.with(Flags::IVVALBLK), value: None };
        let _gone_already = self.table.release(now, owner, &release, &mut self.fx);
    }

    /// [CLUSTER-19] Ends guests that are not in the directory though it is as new now as their home's was: they have ended since.
    ///
    /// By a time instead of the version: this node applies the log late, its disk being slow; s opens, and locks x here; the time is
    /// over before the opening is applied, x is given away under s, which nobody tells.
    pub(crate) fn end_strangers(&mut self, now: Time) {
        while let Some(member) = &mut self.member
            && let Some((_, session)) =
                member.strangers.first().copied().filter(|(version, _)| *version <= member.state.version)
        {
            member.strangers.pop_first();
            if !member.state.sessions.contains_key(&session) {
                self.end_guest(now, session, Ending::Crash);
            }
        }
    }

    /// The guest of a session under this generation of its home.
    pub(crate) fn guest_of(&self, session: SessionId, home: HomeGeneration) -> Option<u32> {
        let member = self.member.as_ref()?;
        let at = member.guests.find(session)?;
        #[cfg(feature = "planted")]
        if lockstead_types::planted::is(lockstead_types::planted::Bug::OlderHomeHeard) {
            return Some(at);
        }
        // [CLUSTER-8] An older home is not heard.
        member.guests.get(at).is_some_and(|g| g.generation == home).then_some(at)
    }

    pub(crate) fn guest_owner(&self, at: u32) -> Option<OwnerId> {
        self.member.as_ref()?.guests.get(at).map(|g| g.owner)
    }

    /// What the session keeps waiting is said again: its former home may have died with the notices.
    fn repeat_guest_blocking(&mut self, now: Time, at: u32) {
        let Some(owner) = self.guest_owner(at) else { return };
        let mut fx: Vec<Effect> = Vec::new();
        self.table.repeat_blocking(owner, &mut fx);
        self.fx.append(&mut fx);
        self.tell_effects(now);
        let groups = self.member.as_ref().and_then(|m| m.guests.get(at)).map(|guest| guest.groups.clone());
        for group in groups.unwrap_or_default() {
            for notice in self.group_blocking(group, at) {
                self.notify_guest(now, at, notice);
            }
        }
    }
}
