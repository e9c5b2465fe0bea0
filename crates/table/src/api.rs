//! Contract of the table: to be replaced by real modules with exactly these public names.
#![allow(missing_docs, unused_variables, clippy::all)]
use alloc::{boxed::Box, string::String, sync::Arc, vec::Vec};

use lockstead_types::{
    Flags, GroupId, LockId, ModeTable, RequestId, SessionId, SpaceId, Span, Time, Token, Limits, Refusal,
    message::Reclaim,
    reply::{ChangeEvent, Grant, Revoked, Value},
    report::{DeadlockReport, Holder, ResourceDetail, ResourceRow, WaitEdge},
    request::{Claim, ConvertRequest, LockRequest, ReleaseRequest},
    space::{DeadlockPolicy, QueuePolicy, VictimPolicy},
};

/// An owner of locks, numbered densely by the table. The node maps sessions and groups to owners.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OwnerId(pub u32);

/// A lockspace as the table knows it.
#[derive(Clone, Debug)]
pub struct Space { pub modes: Arc<ModeTable>, pub policy: QueuePolicy, pub deadlock: DeadlockPolicy, pub victim: VictimPolicy, pub value_bytes: u32 }

/// How an owner ends. Either way its waiting requests go; its PERSISTENT granted locks become orphans in both cases
/// (VMS/fs-dlm: close or exit), others are released; on `Crash` a held writing mode marks the value block invalid.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Ending { Goodbye, Crash }

/// What a request came to at once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome { Granted(Grant), Queued(LockId) }

/// What else a call caused, in order. `origin` is what the caller gave with the request that waits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// A waiting request or conversion was granted.
    Granted { owner: OwnerId, origin: u64, grant: Grant },
    /// A waiting request or conversion ended without a grant (timeout, deadlock victim, cancelled by release/owner end of another, ...).
    Refused { owner: OwnerId, origin: u64, lock: LockId, why: Refusal },
    /// A waiting request or conversion ended because it was cancelled (Cancel or FORCEUNLOCK by its owner).
    Cancelled { owner: OwnerId, origin: u64, lock: LockId },
    /// Blocking notice to a holder.
    Blocking { owner: OwnerId, lock: LockId, claim: Claim },
    /// A granted lock was taken away (force release, space dropped, superseded).
    Revoked { owner: OwnerId, lock: LockId, why: Revoked },
    /// A cycle was found and broken. The victim's own `Refused` (or the `Err(Deadlock)` of the call) comes beside it.
    /// `owners[i]` are the owners of waiter and blocker of `report.cycle[i]`, whose `holder`s and `number`, `ago` the node fills in
    /// and keeps the report.
    Deadlock { report: Box<DeadlockReport>, owners: Vec<(OwnerId, OwnerId)> },
    /// Only where `Table::set_watching(true)`: every change of every lock.
    Changed { owner: Option<OwnerId>, space: SpaceId, name: Box<[u8]>, lock: LockId, event: ChangeEvent, claim: Claim, token: Token },
}

/// Counts of what is there now.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Counts { pub resources: u64, pub granted: u64, pub converting: u64, pub waiting: u64, pub orphans: u64, pub owners: u64 }

/// The lock manager.
pub struct Table;

impl Table {
    /// `epoch` goes into every token; `seed` only seeds the hash of names.
    pub fn new(limits: Limits, epoch: u32, seed: u64) -> Table { unimplemented!() }
    pub fn limits(&self) -> &Limits { unimplemented!() }

    // Lockspaces.
    pub fn add_space(&mut self, id: SpaceId, space: Space) { unimplemented!() }
    pub fn space(&self, id: SpaceId) -> Option<&Space> { unimplemented!() }
    /// Refused Busy where locks are there and not `force`.
    pub fn drop_space(&mut self, now: Time, id: SpaceId, force: bool, fx: &mut Vec<Effect>) -> Result<(), Refusal> { unimplemented!() }

    // Owners.
    /// `max_locks` = limits.locks_per_session for sessions and groups.
    pub fn add_owner(&mut self) -> OwnerId { unimplemented!() }
    pub fn end_owner(&mut self, now: Time, owner: OwnerId, ending: Ending, fx: &mut Vec<Effect>) { unimplemented!() }
    pub fn owner_locks(&self, owner: OwnerId) -> u32 { unimplemented!() }

    // The four operations.
    /// `alone` in req.owner (OwnerRef::Alone) means no busy check and no deadlock edges with the owner's other locks.
    /// ORPHAN adopts. Granted/Queued directly; effects on others go to `fx`.
    pub fn lock(&mut self, now: Time, owner: OwnerId, origin: u64, req: &LockRequest<'_>, fx: &mut Vec<Effect>) -> Result<Outcome, Refusal> { unimplemented!() }
    pub fn convert(&mut self, now: Time, owner: OwnerId, origin: u64, req: &ConvertRequest<'_>, fx: &mut Vec<Effect>) -> Result<Outcome, Refusal> { unimplemented!() }
    pub fn release(&mut self, now: Time, owner: OwnerId, req: &ReleaseRequest<'_>, fx: &mut Vec<Effect>) -> Result<(), Refusal> { unimplemented!() }
    /// Emits Effect::Cancelled for the request that waited. NotHeld where nothing is pending.
    pub fn cancel(&mut self, now: Time, owner: OwnerId, lock: LockId, fx: &mut Vec<Effect>) -> Result<(), Refusal> { unimplemented!() }

    /// The lock of an owner on a name (groups use it). Some((lock, held, waits)).
    pub fn find(&self, owner: OwnerId, space: SpaceId, name: &[u8], tag: u32) -> Option<Found> { unimplemented!() }
    pub fn read_value(&self, owner: OwnerId, lock: LockId) -> Result<Value, Refusal> { unimplemented!() }
    pub fn force_release(&mut self, now: Time, space: SpaceId, name: &[u8], token: Token, fx: &mut Vec<Effect>) -> Result<LockId, Refusal> { unimplemented!() }
    /// Orphans remember the SessionId given at `end_owner`? The node passes `label` (session) with `set_owner_label`.
    pub fn set_owner_label(&mut self, owner: OwnerId, session: SessionId) { unimplemented!() }
    pub fn purge(&mut self, now: Time, space: SpaceId, session: Option<SessionId>, fx: &mut Vec<Effect>) -> u32 { unimplemented!() }

    // Restart.
    /// While frozen nothing new is granted: new requests and up-conversions wait (or WouldWait); releases, down-conversions,
    /// cancels and reclaims work.
    pub fn freeze(&mut self) { unimplemented!() }
    pub fn thaw(&mut self, now: Time, fx: &mut Vec<Effect>) { unimplemented!() }
    pub fn is_frozen(&self) -> bool { unimplemented!() }
    /// Takes back a lock of before a restart. On conflict the higher token wins; the loser gets Revoked(Superseded) or Refusal::Lost.
    /// Raises nothing: the epoch is already higher. The value block of the resource becomes invalid unless read-only... see spec.
    pub fn reclaim(&mut self, now: Time, owner: OwnerId, claim: &Reclaim<'_>, fx: &mut Vec<Effect>) -> Result<Grant, Refusal> { unimplemented!() }
    /// Sends the Blocking effects that hold now for every lock of an owner (after a re-attach).
    pub fn repeat_blocking(&self, owner: OwnerId, fx: &mut Vec<Effect>) { unimplemented!() }

    // Time.
    pub fn next_deadline(&self) -> Option<Time> { unimplemented!() }
    /// Ends the waits whose deadline has come.
    pub fn expire(&mut self, now: Time, fx: &mut Vec<Effect>) { unimplemented!() }

    // Tokens.
    /// The newest token given.
    pub fn last_token(&self) -> Token { unimplemented!() }

    // Looking.
    pub fn set_watching(&mut self, on: bool) { unimplemented!() }
    pub fn counts(&self) -> Counts { unimplemented!() }
    pub fn resources(&self, space: SpaceId, prefix: &[u8], after: &[u8], max: usize) -> (Vec<ResourceRow>, bool) { unimplemented!() }
    /// `master` filled by the caller; `who` names holders (tag and group are filled by table where known).
    pub fn resource(&self, now: Time, space: SpaceId, name: &[u8], who: &dyn Fn(OwnerId) -> Holder) -> Option<ResourceDetail> { unimplemented!() }
    pub fn waits(&self, now: Time, max: usize, who: &dyn Fn(OwnerId) -> Holder) -> Vec<WaitEdge> { unimplemented!() }

    /// Proves the whole state. Err says what is broken.
    pub fn check(&self) -> Result<(), String> { unimplemented!() }
}

/// What `find` found.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Found { pub lock: LockId, pub held: Option<Claim>, pub wanted: Option<Claim>, pub token: Token }
