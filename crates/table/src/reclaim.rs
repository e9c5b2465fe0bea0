//! Claims of clients: after a restart of the node, or after their home died, locks of before are taken back while nothing new
//! is granted. And what taking back means, whoever says what there was.

use alloc::vec::Vec;

use lockstead_types::{
    Extent, Flags, LimitName, Mode, ModeSet, Refusal, Time, Token,
    message::Reclaim,
    reply::{ChangeEvent, Grant, Revoked},
    request::{Claim, ConvertRequest, Wait},
};

use crate::{
    Effect, Outcome, OwnerId, Table,
    block::mode_of,
    deadlock::Actor,
    extents::{Asker, Named},
    lock::{State, Traits},
    resource::Pool,
    slab::NIL,
    store::Ring,
    table::{Call, SpaceEntry},
    waits::End,
};

/// Resources and locks that can be numbered: what was granted before is taken back beyond the configured limits, but not
/// beyond this.
const PLACES_MAX: u32 = u32::MAX - 1;

/// A lock that is held somewhere, or was.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Held {
    pub(crate) claim: Claim,
    pub(crate) token: Token,
}

/// What kind of lock it is.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Kind {
    pub(crate) owner: u32,
    pub(crate) tag: u32,
    pub(crate) alone: bool,
    pub(crate) flags: Flags,
}

impl Table {
    /// Takes back a lock of before a restart, with the token it had. A repeated claim is answered the same.
    ///
    /// # Errors
    /// `Lost` where the freeze is over or a conflicting claim has a higher token; `NoLockspace`, `BadMode`, `Invalid`,
    /// `TooLong`, `Busy` where the claim cannot be of this table.
    pub fn reclaim(
        &mut self,
        now: Time,
        owner: OwnerId,
        claim: &Reclaim<'_>,
        fx: &mut Vec<Effect>,
    ) -> Result<Grant, Refusal> {
        let space = self.spaces.find(claim.space).ok_or(Refusal::NoLockspace)?;
        // [FREEZE-3] Only while frozen: later, others may have been granted it.
        if !self.is_frozen_name(claim.space, claim.name) || self.owners.find(owner).is_none() {
            return Err(Refusal::Lost);
        }
        self.check_claim(space, claim.name, claim.held, claim.flags)?;
        let named = self.named(space, claim.name)?;
        // [FREEZE-4] A token of an earlier epoch: a client cannot make one up that would beat those of this one.
        if claim.token.epoch() >= self.epoch || claim.token == Token::NONE {
            return Err(Refusal::Invalid);
        }
        let resource = self.find_resource(space, named.name).0;
        let same = |_, token| token == claim.token;
        let holder = resource.and_then(|r| self.holder_of(r, owner.0, named.extent.as_ref(), same));
        match holder {
            Some(l) => Ok(self.grant_again(l)),
            None => self.take_claimed(now, owner, space, named, claim, fx),
        }
    }

    /// Answers the claim of a client that has come to another home: of a lock its owner has here the one it has, of another
    /// one, in a frozen slot, by taking it back with the token it had.
    ///
    /// The owner's lock is found by its token; a lock that does not stand alone also by its tag where it has a higher token
    /// and holds at least what is claimed: a conversion of whose grant the client never heard. Where it holds more than is
    /// claimed it is converted down to that, and what it waits for is cancelled, with `Effect::Cancelled` and its old origin: the
    /// client asks for it again. A conversion from what is claimed waits on ([SLOT-8]).
    ///
    /// # Errors
    /// `Lost` where the owner has no such lock and the slot is not frozen, or a conflicting claim has a higher token;
    /// `NoLockspace`, `BadMode`, `Invalid`, `TooLong`, `Busy` where the claim cannot be of this table.
    pub fn claim_in(
        &mut self,
        now: Time,
        owner: OwnerId,
        claim: &Reclaim<'_>,
        fx: &mut Vec<Effect>,
    ) -> Result<Grant, Refusal> {
        let space = self.spaces.find(claim.space).ok_or(Refusal::NoLockspace)?;
        self.owners.find(owner).ok_or(Refusal::Lost)?;
        self.check_claim(space, claim.name, claim.held, claim.flags)?;
        let named = self.named(space, claim.name)?;
        let resource = self.find_resource(space, named.name).0;
        if let Some(l) = resource.and_then(|r| self.holds_claimed(r, owner, named.extent.as_ref(), claim)) {
            return Ok(self.bring_down(now, l, claim, fx));
        }
        // [SLOT-8] Others may have been granted it.
        if !self.is_frozen_name(claim.space, claim.name) {
            return Err(Refusal::Lost);
        }
        // [SLOT-5] A token that may have been given by now.
        if claim.token == Token::NONE || Some(claim.token) > Token::new(self.epoch, self.sequence) {
            return Err(Refusal::Invalid);
        }
        self.take_claimed(now, owner, space, named, claim, fx)
    }

    fn take_claimed(
        &mut self,
        now: Time,
        owner: OwnerId,
        space: u16,
        named: Named<'_>,
        claim: &Reclaim<'_>,
        fx: &mut Vec<Effect>,
    ) -> Result<Grant, Refusal> {
        let Named { name, extent } = named;
        let (resource, hash) = self.find_resource(space, name);
        self.check_places(resource)?;
        let held = Held { claim: claim.held, token: claim.token };
        let mut rivals = Vec::new();
        if let Some(resource) = resource {
            self.check_kind(resource, claim.held)?;
            if !claim.alone && self.lock_of(resource, owner, claim.tag, extent.as_ref()).is_some() {
                return Err(Refusal::Busy);
            }
            let actor = (!claim.alone).then_some(Actor::Owner(owner.0));
            let asker = extent.as_ref().map(|extent| Asker { me: NIL, actor, extent });
            rivals = self.rivals(resource, asker.as_ref(), held)?;
        }
        let mut call = Call::new(now, fx);
        let resource = resource.unwrap_or_else(|| self.make_resource(space, name, hash));
        let kind = Kind { owner: owner.0, tag: claim.tag, alone: claim.alone, flags: claim.flags };
        let l = self.make_known(resource, kind, claim.held, extent);
        self.hold_again(&mut call, l, held, rivals);
        // [FREEZE-5] The bytes of the value block went with the node.
        self.doubt_value(resource);
        self.changed(&mut call, l, ChangeEvent::Granted);
        self.settle(&mut call, resource);
        self.resolve(&mut call);
        Ok(self.grant_again(l))
    }

    /// Refuses what cannot be a name and a claim of a lockspace.
    pub(crate) fn check_claim(&self, space: u16, name: &[u8], claim: Claim, flags: Flags) -> Result<(), Refusal> {
        let entry: &SpaceEntry = self.spaces.get(space).ok_or(Refusal::NoLockspace)?;
        if name.len() > lockstead_types::limits::NAME_BYTES_CEILING as usize {
            return Err(Refusal::TooLong);
        }
        let sense = match claim {
            Claim::Mode(mode) if !entry.space.modes.has(mode) => return Err(Refusal::BadMode),
            Claim::Mode(_) => true,
            Claim::Permits { take, of } => take > 0 && take <= of,
        };
        if !sense || name.is_empty() {
            return Err(Refusal::Invalid);
        }
        let extent = self.named(space, name)?.extent;
        extent.map_or(Ok(()), |extent| self.check_extent(&extent, flags, matches!(claim, Claim::Mode(_))))
    }

    /// Refuses what cannot be numbered.
    pub(crate) fn check_places(&self, resource: Option<u32>) -> Result<(), Refusal> {
        if resource.is_none() && self.resources.used() >= PLACES_MAX {
            return Err(Refusal::Limit(LimitName::Resources));
        }
        if self.locks.used() >= PLACES_MAX { Err(Refusal::Limit(LimitName::Locks)) } else { Ok(()) }
    }

    /// Refuses permits of a resource with modes, or with another number of permits, and the other way round.
    pub(crate) fn check_kind(&self, resource: u32, claim: Claim) -> Result<(), Refusal> {
        match (claim, self.pool(resource)) {
            (Claim::Mode(_), None) => Ok(()),
            (Claim::Permits { of, .. }, Some(pool)) if pool.of == of => Ok(()),
            (Claim::Permits { .. }, None) if self.resources[resource].is_empty() => Ok(()),
            _ => Err(Refusal::Invalid),
        }
    }

    /// [FREEZE-6] Of conflicting claims the higher token wins: the locks this one drives out, or `Lost` if it must yield.
    pub(crate) fn rivals(&self, resource: u32, asker: Option<&Asker<'_>>, held: Held) -> Result<Vec<u32>, Refusal> {
        let holders = self.ring(resource, Ring::Granted).chain(self.ring(resource, Ring::Converting));
        let rivals: Vec<u32> = match held.claim {
            Claim::Mode(mode) => {
                // [RANGE-2] Of what it overlaps alone.
                let beside = asker.map(|asker| self.holding_beside(resource, asker, ModeSet(u32::MAX)));
                let modes = self.modes_of(resource);
                // The one with the higher token came later: it was compatible with the other, or both cannot have been held.
                let conflict = |l: &u32| {
                    let (other, token) = (self.locks[*l].mode, self.token(*l));
                    let later = token < held.token || (token == held.token && modes.compatible(other, mode));
                    if later { !modes.compatible(mode, other) } else { !modes.compatible(other, mode) }
                };
                match beside {
                    Some(beside) => beside.into_iter().filter(conflict).collect(),
                    None => holders.filter(conflict).collect(),
                }
            }
            Claim::Permits { take, of } => {
                let mut by_age: Vec<u32> = holders.collect();
                by_age.sort_unstable_by_key(|l| self.token(*l));
                let mut free = of.saturating_sub(self.pool(resource).map_or(0, |p| p.taken));
                let oldest = by_age.into_iter().take_while(|l| {
                    let more = free < take;
                    free = free.saturating_add(self.take(*l));
                    more
                });
                oldest.collect()
            }
        };
        // [FREEZE-6] The newer grant is the one that was in force.
        if rivals.iter().any(|l| self.token(*l) > held.token) { Err(Refusal::Lost) } else { Ok(rivals) }
    }

    /// A lock of before, in no queue yet.
    pub(crate) fn make_known(&mut self, resource: u32, kind: Kind, claim: Claim, extent: Option<Extent>) -> u32 {
        let permits = matches!(claim, Claim::Permits { .. });
        let traits = Traits::of(kind.flags).with_if(kind.alone, Traits::ALONE).with_if(permits, Traits::PERMITS);
        let l = self.make_lock(resource, kind.owner, mode_of(claim), traits);
        if kind.tag != 0 {
            self.side_mut(l).tag = kind.tag;
        }
        if let Claim::Permits { take, of } = claim {
            self.side_mut(l).more = take;
            self.extra_mut(resource).permits.get_or_insert(Pool { of, taken: 0 });
        }
        if let Some(extent) = extent {
            self.add_extent(l, extent);
        }
        l
    }

    /// Lets a lock of before hold what it held, and those it drives out give way.
    pub(crate) fn hold_again(&mut self, call: &mut Call<'_>, l: u32, held: Held, rivals: Vec<u32>) {
        self.enter(l, State::Granted, NIL);
        self.add_held(l, mode_of(held.claim));
        self.set_token(l, held.token);
        self.drive_out(call, l, rivals);
    }

    /// What a lock holds was given by another table, and those it drives out give way.
    pub(crate) fn drive_out(&mut self, call: &mut Call<'_>, l: u32, rivals: Vec<u32>) {
        let resource = self.locks[l].resource;
        self.locks[l].traits = self.locks[l].traits.with(Traits::FOREIGN);
        for rival in rivals {
            if !self.falls_back(rival) {
                self.revoke(call, rival, Revoked::Superseded);
            }
        }
        if self.queue(resource).is_some() {
            self.queue_mut(resource).told_for = None;
            self.tell_of(l);
            self.suspect(call, l);
        }
    }

    /// A conversion with CONVDEADLK may have let go of its old mode where it was: then that is no rival.
    fn falls_back(&mut self, l: u32) -> bool {
        let may = self.wait(l).is_some_and(|w| w.flags.has(Flags::CONVDEADLK));
        if !may || !self.demote(l) {
            return false;
        }
        if let Some(wait) = self.wait_mut(l) {
            wait.demoted = true;
        }
        true
    }

    /// A lock of an owner that is held at a resource.
    pub(crate) fn holder_of(
        &self,
        resource: u32,
        owner: u32,
        extent: Option<&Extent>,
        is: impl Fn(u32, Token) -> bool,
    ) -> Option<u32> {
        if let Some(extent) = extent {
            let same = |l: u32| self.locks[l].is_held() && self.locks[l].owner == owner && is(l, self.token(l));
            return self.equal_extent(resource, extent, same);
        }
        let mut holders = self.ring(resource, Ring::Granted).chain(self.ring(resource, Ring::Converting));
        holders.find(|l| self.locks[*l].owner == owner && is(*l, self.token(*l)))
    }

    /// The lock that a claim means, where its owner has it.
    fn holds_claimed(
        &self,
        resource: u32,
        owner: OwnerId,
        extent: Option<&Extent>,
        claim: &Reclaim<'_>,
    ) -> Option<u32> {
        if let Some(l) = self.holder_of(resource, owner.0, extent, |_, token| token == claim.token) {
            return Some(l);
        }
        let at_least = |l: &u32| match (self.claim(*l, self.locks[*l].mode), claim.held) {
            (Claim::Mode(held), Claim::Mode(mode)) => self.modes_of(resource).is_down(held, mode),
            _ => false,
        };
        // [SLOT-8] Of locks that stand alone the owner may have several: which of them this was nobody can say.
        let l = self.lock_of(resource, owner, claim.tag, extent).filter(|_| !claim.alone)?;
        Some(l).filter(|l| self.locks[*l].is_held() && self.token(*l) > claim.token).filter(at_least)
    }

    /// Lets a lock hold what its client claims and no more.
    fn bring_down(&mut self, now: Time, l: u32, claim: &Reclaim<'_>, fx: &mut Vec<Effect>) -> Grant {
        let (owner, resource) = (OwnerId(self.locks[l].owner), self.locks[l].resource);
        let mode = self.locks[l].mode;
        let less = |less: Mode| less != mode && self.modes_of(resource).is_down(mode, less);
        if let Claim::Mode(mode) = claim.held
            && !self.locks[l].traits.has(Traits::PERMITS)
            && less(mode)
        {
            let mut call = Call::new(now, fx);
            if self.locks[l].state == State::Converting {
                self.end_wait(&mut call, l, End::Cancelled);
            }
            self.settle(&mut call, resource);
            self.resolve(&mut call);
            // [SLOT-8] The client may have asked to write the value block on the way down, and this table has not seen it do so.
            let invalid = if self.is_partial(l) { Flags::NONE } else { Flags::IVVALBLK };
            let flags = self.locks[l].traits.flags().with(invalid);
            let req = ConvertRequest { lock: self.id(l), mode, wait: Wait::Never, flags, value: None };
            // [SLOT-8] Down: granted in place, and what it kept waiting is served.
            if let Ok(Outcome::Granted(grant)) = self.convert(now, owner, 0, &req, fx) {
                return grant;
            }
        }
        self.grant_again(l)
    }

    fn grant_again(&self, l: u32) -> Grant {
        let claim = self.claim(l, self.locks[l].mode);
        Grant {
            lock: self.id(l),
            claim,
            token: self.token(l),
            value: None,
            demoted: false,
            alternative: false,
            seal: None,
        }
    }
}
