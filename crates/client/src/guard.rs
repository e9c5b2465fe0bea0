//! A lock that is held.

use core::{future::Future, future::IntoFuture, future::poll_fn, pin::Pin, time::Duration};

use lockstead_client_core::Lease;
use lockstead_types::{
    Flags, LockId, Mode, ModeTable, Refusal, Span, Token,
    reply::{Grant, Reply, Value},
    request::{Claim, ConvertRequest, Op, ReleaseRequest, Wait},
};

use crate::{
    Error, Lost, Space,
    client::{done, unexpected},
    desk::Converted,
    link::Link,
    lock::{Ask, parse_mode},
    space::default_modes,
};

/// A lock that is held, until it is released, dropped or lost.
///
/// Before each guarded step ask [`Guard::check`], and carry [`Guard::token`] to the guarded resource, which checks it with
/// a [`crate::FenceGate`]: a check here cannot see what happens between it and the step.
pub struct Guard {
    link: Link,
    lock: LockId,
    name: Box<[u8]>,
    space: Option<Space>,
    claim: Claim,
    token: Token,
    value: Option<Value>,
    value_wanted: bool,
    alternative: bool,
    /// A conversion is under way, or was dropped half-way; what became of it is at the desk. Until that is known this is
    /// what is held whatever the service has done.
    between: Option<Claim>,
    released: bool,
    /// It is a transaction's: dropping the guard does not release it.
    kept: bool,
}

impl Guard {
    pub(crate) fn new(link: Link, name: &[u8], ask: Ask, grant: Grant) -> Guard {
        Guard {
            link,
            lock: grant.lock,
            name: name.into(),
            space: ask.space,
            claim: grant.claim,
            token: grant.token,
            value: grant.value,
            value_wanted: ask.flags.has(Flags::VALBLK),
            alternative: grant.alternative,
            between: None,
            released: false,
            kept: ask.owner.is_in_transaction(),
        }
    }

    /// The fencing token: greater than that of every conflicting grant before it.
    #[must_use]
    pub fn token(&self) -> Token {
        match self.converted() {
            Some(Converted::Granted(grant)) => grant.token,
            _ => self.token,
        }
    }

    /// The resource.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// What is held. After a dropped conversion, until the service has said what became of it: what the old and the new
    /// mode have in common, since another may have been granted what either alone would exclude.
    #[must_use]
    pub fn claim(&self) -> Claim {
        match (self.converted(), self.between) {
            (Some(Converted::Granted(grant)), _) => grant.claim,
            (Some(Converted::Demoted(held)), _) => held,
            (None, Some(between)) => between,
            (Some(Converted::Kept), _) | (None, None) => self.claim,
        }
    }

    /// The mode that is held ([`Guard::claim`]), `None` for permits.
    #[must_use]
    pub fn mode(&self) -> Option<Mode> {
        match self.claim() {
            Claim::Mode(mode) => Some(mode),
            Claim::Permits { .. } => None,
        }
    }

    /// The name of the mode, `permits` for permits.
    #[must_use]
    pub fn mode_name(&self) -> &str {
        self.mode().map_or("permits", |mode| self.modes().mode_name(mode))
    }

    /// The modes of the lockspace.
    #[must_use]
    pub fn modes(&self) -> &ModeTable {
        self.space.as_ref().map_or_else(|| default_modes(), Space::modes)
    }

    /// The lock's id in this session.
    #[must_use]
    pub fn lock_id(&self) -> LockId {
        self.lock
    }

    /// Whether ALTPR or ALTCW gave another mode than the one asked for.
    #[must_use]
    pub fn is_alternative(&self) -> bool {
        self.alternative
    }

    /// The value block as the last grant or conversion read it; `None` where it read none.
    #[must_use]
    pub fn value(&self) -> Option<&Value> {
        self.value.as_ref()
    }

    /// Reads the value block now, in any mode.
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub async fn read_value(&mut self) -> Result<&Value, Error> {
        self.check()?;
        match self.link.ask(Op::ReadValue(self.lock)).await? {
            Reply::Value(value) => Ok(self.value.insert(value)),
            other => Err(unexpected(&other)),
        }
    }

    /// Writes the value block and keeps the lock as it is. The mode must be one that writes (PW, EX in `default`).
    ///
    /// # Errors
    /// `too-long`, [`Error::Lost`].
    pub async fn set_value(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let Some(mode) = self.mode() else { return Err(Error::Refused(Refusal::Invalid)) };
        self.convert_to(mode).value(bytes).await
    }

    /// Held, unsure or lost, by the clock, now.
    #[must_use]
    pub fn state(&self) -> Lease {
        match self.check() {
            Ok(()) => self.link.lease(),
            Err(_) => Lease::Lost,
        }
    }

    /// Whether a guarded step may be started now. Reads the clock, and trusts no timer: a process that was stopped beyond
    /// its lease learns it here first.
    ///
    /// # Errors
    /// [`Lost`].
    pub fn check(&self) -> Result<(), Lost> {
        self.link.check()?;
        match self.link.with_desk(|desk| desk.lock_lost(self.lock)) {
            Some(why) => Err(why),
            None => Ok(()),
        }
    }

    /// How long guarded work may still go on unless the lease is renewed; zero once lost, `None` for an embedded session,
    /// which has no deadline.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        self.link.left().map(|left| if self.check().is_err() { Duration::ZERO } else { left.into() })
    }

    /// Ends when the lock is lost: the lease ran out, it was taken away, the client closed. Cancellation safe.
    pub async fn lost(&self) -> Lost {
        poll_fn(|cx| self.link.with_desk(|desk| desk.poll_lock_lost(self.lock, cx.waker()))).await
    }

    /// Blocking notices: somebody waits for this lock. One that came before this call is not lost.
    #[must_use]
    pub fn blocking(&self) -> Blocking<'_> {
        Blocking { guard: self }
    }

    /// Converts to another mode of the lockspace; [`Error::Config`] when awaited if it has none of that name.
    pub fn convert(&mut self, mode: &str) -> ConvertBuilder<'_> {
        let mode = parse_mode(self.modes(), mode);
        ConvertBuilder { guard: self, mode, wait: Wait::Forever, flags: Flags::NONE, value: None }
    }

    /// As [`Guard::convert`], with the mode's number.
    pub fn convert_to(&mut self, mode: Mode) -> ConvertBuilder<'_> {
        ConvertBuilder { guard: self, mode: Ok(mode), wait: Wait::Forever, flags: Flags::NONE, value: None }
    }

    /// Releases, and waits until the service has done it.
    ///
    /// # Errors
    /// [`Error::Lost`] where it was lost before; then nothing is held either.
    pub async fn release(self) -> Result<(), Error> {
        self.release_as(Flags::NONE, None).await
    }

    /// Releases and writes the value block, where the mode held is one that writes.
    ///
    /// # Errors
    /// `too-long`, [`Error::Lost`]; the lock is released in either case.
    pub async fn release_with(self, value: &[u8]) -> Result<(), Error> {
        self.release_as(Flags::VALBLK, Some(value)).await
    }

    async fn release_as(mut self, flags: Flags, value: Option<&[u8]>) -> Result<(), Error> {
        self.check()?;
        let release = ReleaseRequest { lock: self.lock, flags, value };
        let pending = self.link.submit(&Op::Release { release, one_way: false });
        let pending = pending.map_err(|why| self.link.explain(why))?;
        // The request is under way: dropping this future now neither undoes nor repeats it.
        let reply = pending.outcome().await;
        self.released = matches!(reply, Reply::Released);
        done(self.link.accept(reply)?)
    }

    /// Takes in what a dropped conversion came to.
    fn settle(&mut self) {
        if self.between.is_none() {
            return;
        }
        let lock = self.lock;
        let converted = self.link.with_desk(|desk| desk.news_of(lock).and_then(|n| n.converted.take()));
        if let Some(converted) = converted {
            self.take_converted(converted);
        }
    }

    fn take_converted(&mut self, converted: Converted) {
        self.between = None;
        match converted {
            Converted::Granted(grant) => self.take(grant),
            Converted::Demoted(held) => self.claim = held,
            Converted::Kept => {}
        }
    }

    /// What is held whatever becomes of a conversion: it may have been granted, or have let go of the old mode, before the
    /// service's answer is here.
    fn while_converting(&self, to: Mode, flags: Flags) -> Claim {
        let (modes, now) = (self.modes(), self.claim());
        let Claim::Mode(from) = now else { return now };
        modes.while_converting(from, to, flags).map_or(now, Claim::Mode)
    }

    fn take(&mut self, grant: Grant) {
        self.claim = grant.claim;
        self.token = grant.token;
        self.alternative = grant.alternative;
        if grant.value.is_some() {
            self.value = grant.value;
        }
    }

    fn converted(&self) -> Option<Converted> {
        self.between?;
        self.link.with_desk(|desk| desk.news_of(self.lock).and_then(|n| n.converted.clone()))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.link.drop_lock(self.lock, !self.released && !self.kept);
    }
}

impl core::fmt::Debug for Guard {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let name = lockstead_types::name::escape(&self.name);
        write!(f, "Guard({name} {} token={})", self.mode_name(), self.token())
    }
}

/// Blocking notices of one lock.
pub struct Blocking<'a> {
    guard: &'a Guard,
}

impl Blocking<'_> {
    /// The strongest claim that this lock keeps waiting, `None` once the lock is lost. Several notices that were not read
    /// count as one, the newest. Cancellation safe.
    pub async fn next(&mut self) -> Option<Claim> {
        let guard = self.guard;
        poll_fn(|cx| guard.link.with_desk(|desk| desk.poll_blocking(guard.lock, cx.waker()))).await
    }
}

/// A conversion being described. Await it (or its `wait`, `try_now`) to ask for it.
///
/// Dropping the future cancels the conversion: the lock stays in its old mode, or is in the new one if that was granted
/// first; [`Guard::mode`] tells, and trusts neither until the service has. A refused conversion with CONVDEADLK may leave
/// the null mode; [`Guard::mode`] tells that too.
#[must_use = "nothing is asked before it is awaited"]
pub struct ConvertBuilder<'a> {
    guard: &'a mut Guard,
    mode: Result<Mode, Error>,
    wait: Wait,
    flags: Flags,
    value: Option<&'a [u8]>,
}

impl<'a> ConvertBuilder<'a> {
    /// Flags of a conversion.
    pub fn flag(mut self, flags: Flags) -> Self {
        self.flags = self.flags.with(flags);
        self
    }

    /// Writes the value block, where the conversion goes down from (or stays in) a mode that writes.
    pub fn value(mut self, bytes: &'a [u8]) -> Self {
        self.flags = self.flags.with(Flags::VALBLK);
        self.value = Some(bytes);
        self
    }

    /// Asks without waiting; whether it was done.
    ///
    /// # Errors
    /// [`Error::Refused`] for all but `would-wait`, [`Error::Lost`].
    pub async fn try_now(mut self) -> Result<bool, Error> {
        self.wait = Wait::Never;
        match self.run().await {
            Ok(()) => Ok(true),
            Err(Error::Refused(Refusal::WouldWait)) => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// Waits so long; the lock keeps its old mode meanwhile, and afterwards if it was not granted.
    ///
    /// # Errors
    /// `timeout`, `deadlock`, other refusals, [`Error::Lost`].
    pub async fn wait(mut self, time: Duration) -> Result<(), Error> {
        self.wait = Wait::For(Span::from(time));
        self.run().await
    }

    async fn run(self) -> Result<(), Error> {
        let ConvertBuilder { guard, mode, wait, mut flags, value } = self;
        let mode = mode?;
        guard.settle();
        guard.check()?;
        if guard.value_wanted {
            flags = flags.with(Flags::VALBLK);
        }
        let op = Op::Convert(ConvertRequest { lock: guard.lock, mode, wait, flags, value });
        let pending = guard.link.submit(&op).map_err(|why| guard.link.explain(why))?;
        // Until the answer is here, a dropped future leaves its outcome at the desk.
        guard.between = Some(guard.while_converting(mode, flags));
        let reply = pending.outcome().await;
        // One that was dropped before came to its end before this one.
        guard.settle();
        guard.take_converted(Converted::of(&reply));
        match reply {
            Reply::Granted(_) => Ok(guard.check()?),
            Reply::Demoted { why: Some(why), .. } => Err(guard.link.explain(why)),
            other => Err(guard.link.accept(other).map_or_else(|why| why, |other| unexpected(&other))),
        }
    }
}

impl<'a> IntoFuture for ConvertBuilder<'a> {
    type Output = Result<(), Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
