//! Asking for locks: one name, several names, permits.

use core::{future::Future, future::IntoFuture, pin::Pin, task::Context, task::Poll, task::ready, time::Duration};

use lockstead_types::{
    Flags, Mode, ModeTable, Refusal, SpaceId, Span,
    reply::Reply,
    request::{Claim, LockRequest, Op, OwnerRef, Wait},
};

use crate::{
    Error, Guard, Space,
    client::unexpected,
    desk::Undo,
    link::{Asked, Link, Pending},
    space::default_modes,
};

/// What is asked of each name, without the name.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) space: Option<Space>,
    /// `None`: exclusive.
    pub(crate) claim: Option<Claim>,
    pub(crate) wait: Wait,
    pub(crate) flags: Flags,
    pub(crate) owner: OwnerRef,
    pub(crate) tag: u32,
    pub(crate) priority: i8,
    /// Whether the name is a path of a hierarchy, and all above it is locked with it.
    pub(crate) path: bool,
    /// A mode name the lockspace may not have; looked up when the request is made.
    pub(crate) mode_name: Option<Box<str>>,
}

impl Default for Ask {
    fn default() -> Ask {
        Ask {
            space: None,
            claim: None,
            wait: Wait::Forever,
            flags: Flags::NONE,
            owner: OwnerRef::Alone,
            tag: 0,
            priority: 0,
            path: false,
            mode_name: None,
        }
    }
}

impl Ask {
    pub(crate) fn modes(&self) -> &ModeTable {
        self.space.as_ref().map_or_else(|| default_modes(), Space::modes)
    }

    fn claim(&self) -> Result<Claim, Error> {
        match (&self.mode_name, self.claim) {
            (Some(name), _) => Ok(Claim::Mode(parse_mode(self.modes(), name)?)),
            (None, Some(claim)) => Ok(claim),
            (None, None) => Ok(Claim::Mode(self.modes().exclusive())),
        }
    }

    fn request<'a>(&self, name: &'a [u8], claim: Claim) -> LockRequest<'a> {
        LockRequest {
            space: self.space.as_ref().map_or(SpaceId(0), Space::id),
            name,
            claim,
            wait: self.wait,
            flags: self.flags,
            owner: self.owner,
            tag: self.tag,
            priority: self.priority,
        }
    }
}

pub(crate) fn parse_mode(modes: &ModeTable, name: &str) -> Result<Mode, Error> {
    modes.parse(name).ok_or_else(|| Error::Config(format!("{name:?} is no mode of the table {}", modes.name())))
}

macro_rules! ask_setters {
    () => {
        /// Shared: the mode of `-s` in the lockspace (PR in `default`).
        pub fn shared(mut self) -> Self {
            self.shortcut = Some(Shortcut::Shared);
            self
        }

        /// Update: the mode of `-u` (PW in `default`). Readers go on, writers wait.
        pub fn update(mut self) -> Self {
            self.shortcut = Some(Shortcut::Update);
            self
        }

        /// Exclusive: the mode of `-x` (EX in `default`). What is asked for where nothing is said.
        pub fn exclusive(mut self) -> Self {
            self.shortcut = Some(Shortcut::Exclusive);
            self
        }

        /// A mode of the lockspace by name or alias; [`Error::Config`] when asked if it has none of that name.
        pub fn mode(mut self, name: &str) -> Self {
            self.shortcut = None;
            self.ask.mode_name = Some(name.into());
            self
        }

        /// The lockspace, `default` if not said.
        pub fn space(mut self, space: &Space) -> Self {
            self.ask.space = Some(space.clone());
            self
        }

        /// In `fair` lockspaces, higher goes first.
        pub fn priority(mut self, priority: i8) -> Self {
            self.ask.priority = priority;
            self
        }

        /// Further flags, under their VMS names.
        pub fn flag(mut self, flags: Flags) -> Self {
            self.ask.flags = self.ask.flags.with(flags);
            self
        }

        /// Whether the value block is wanted: read on the grant, writable while the mode writes.
        pub fn value(mut self, wanted: bool) -> Self {
            let bit = Flags::VALBLK.0;
            self.ask.flags = Flags(if wanted { self.ask.flags.0 | bit } else { self.ask.flags.0 & !bit });
            self
        }

        /// All locks asked for so are one owner's, the session's: deadlock search treats them as one thread of control, and
        /// there is one lock per name and tag. Without it each lock stands alone.
        pub fn owned_by_session(mut self) -> Self {
            self.ask.owner = OwnerRef::Session;
            self
        }
    };
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Shortcut {
    Shared,
    Update,
    Exclusive,
}

fn settle(ask: &mut Ask, shortcut: Option<Shortcut>) {
    let Some(shortcut) = shortcut else { return };
    let modes = ask.modes();
    let mode = match shortcut {
        Shortcut::Shared => modes.shared(),
        Shortcut::Update => modes.update(),
        Shortcut::Exclusive => modes.exclusive(),
    };
    ask.claim = Some(Claim::Mode(mode));
    ask.mode_name = None;
}

/// A lock being described. Await it (or its [`wait`](LockBuilder::wait), [`try_now`](LockBuilder::try_now)) to ask for it.
#[must_use = "nothing is asked before it is awaited"]
pub struct LockBuilder<'a, N> {
    link: &'a Link,
    name: N,
    shortcut: Option<Shortcut>,
    ask: Ask,
}

impl<'a, N: AsRef<[u8]>> LockBuilder<'a, N> {
    pub(crate) fn new(link: &'a Link, name: N, ask: Ask) -> LockBuilder<'a, N> {
        LockBuilder { link, name, shortcut: None, ask }
    }

    ask_setters!();

    /// Tells apart several locks of the session or group on one name.
    pub fn tag(mut self, tag: u32) -> Self {
        self.ask.tag = tag;
        self
    }

    /// Asks without waiting; `None` where it would have to wait.
    ///
    /// # Errors
    /// [`Error::Refused`] for all but `would-wait`, [`Error::Lost`].
    pub async fn try_now(mut self) -> Result<Option<Guard>, Error>
    where
        N: Unpin,
    {
        self.ask.wait = Wait::Never;
        match self.into_future().await {
            Ok(guard) => Ok(Some(guard)),
            Err(Error::Refused(Refusal::WouldWait)) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// Waits so long, counted by the node. Dropping the future cancels the request and leaves nothing in the queue.
    ///
    /// # Errors
    /// `timeout` where it was not granted in time, other refusals, [`Error::Lost`].
    pub fn wait(mut self, time: Duration) -> Acquire<'a, N> {
        self.ask.wait = Wait::For(Span::from(time));
        self.into_future()
    }

    /// Waits as long as the session lives. The same as awaiting the builder itself.
    ///
    /// # Errors
    /// A refusal (`deadlock`, `limit:NAME`), [`Error::Lost`].
    pub fn forever(mut self) -> Acquire<'a, N> {
        self.ask.wait = Wait::Forever;
        self.into_future()
    }
}

impl<'a, N: AsRef<[u8]>> IntoFuture for LockBuilder<'a, N> {
    type Output = Result<Guard, Error>;
    type IntoFuture = Acquire<'a, N>;

    fn into_future(mut self) -> Acquire<'a, N> {
        settle(&mut self.ask, self.shortcut);
        Acquire { link: self.link, name: Some(self.name), ask: self.ask, pending: None }
    }
}

/// A lock being asked for. Cancellation safe: dropped, it leaves nothing in a queue, and a grant that crossed its
/// cancellation is released.
#[must_use = "nothing is asked before it is awaited"]
pub struct Acquire<'a, N> {
    link: &'a Link,
    name: Option<N>,
    ask: Ask,
    pending: Option<Pending>,
}

// Nothing in it is ever pinned: the name is only looked at, and given up when the grant comes.
impl<N> Unpin for Acquire<'_, N> {}

impl<N: AsRef<[u8]>> Future for Acquire<'_, N> {
    type Output = Result<Guard, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let Some(name) = &this.name else { return Poll::Ready(Err(Error::Config("polled after it was done".into()))) };
        let reply = match &mut this.pending {
            Some(pending) => ready!(last_reply(pending, cx)),
            None => {
                let claim = this.ask.claim()?;
                let request = this.ask.request(name.as_ref(), claim);
                let op = if this.ask.path { Op::LockPath(request) } else { Op::Lock(request) };
                match this.link.ask_now(&op).map_err(|why| this.link.explain(why))? {
                    Asked::Answered(reply) => reply,
                    ticket => {
                        let pending = this.pending.insert(this.link.pending(ticket, Undo::Release));
                        ready!(last_reply(pending, cx))
                    }
                }
            }
        };
        let reply = match reply {
            Reply::GrantedPath(mut path) => path.grants.pop().map_or(Reply::Refused(Refusal::Lost), Reply::Granted),
            other => other,
        };
        let granted = match reply {
            Reply::Granted(grant) => {
                // The guard comes first: should the lease turn out to be lost, dropping it gives the lock back.
                let guard = Guard::new(this.link.clone(), name.as_ref(), core::mem::take(&mut this.ask), grant);
                this.link.check().map(|()| guard).map_err(Error::Lost)
            }
            Reply::Refused(why) => Err(this.link.explain(why)),
            other => Err(unexpected(&other)),
        };
        this.name = None;
        Poll::Ready(granted)
    }
}

fn last_reply(pending: &mut Pending, cx: &mut Context<'_>) -> Poll<Reply> {
    loop {
        match ready!(pending.poll_next(cx)) {
            Some(Reply::Queued(_)) => {}
            Some(reply) => return Poll::Ready(reply),
            None => return Poll::Ready(Reply::Refused(Refusal::Lost)),
        }
    }
}

/// Several locks being described, all or none. Await it (or its `wait`, `try_now`) to ask for them.
#[must_use = "nothing is asked before it is awaited"]
pub struct ManyBuilder<'a> {
    link: &'a Link,
    names: Vec<Box<[u8]>>,
    shortcut: Option<Shortcut>,
    ask: Ask,
}

impl<'a> ManyBuilder<'a> {
    pub(crate) fn new(link: &'a Link, names: Vec<Box<[u8]>>) -> ManyBuilder<'a> {
        ManyBuilder { link, names, shortcut: None, ask: Ask::default() }
    }

    pub(crate) fn owned_by(mut self, owner: OwnerRef) -> Self {
        self.ask.owner = owner;
        self
    }

    ask_setters!();

    /// Asks without waiting; `None` where one of them would have to wait.
    ///
    /// # Errors
    /// [`Error::Refused`] for all but `would-wait`, [`Error::Lost`].
    pub async fn try_now(mut self) -> Result<Option<Vec<Guard>>, Error> {
        self.ask.wait = Wait::Never;
        match self.obtain().await {
            Ok(guards) => Ok(Some(guards)),
            Err(Error::Refused(Refusal::WouldWait)) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// Waits so long for all of them. Dropping the future cancels the request and leaves nothing in a queue.
    ///
    /// # Errors
    /// `timeout` where they were not all granted in time, other refusals, [`Error::Lost`].
    pub async fn wait(mut self, time: Duration) -> Result<Vec<Guard>, Error> {
        self.ask.wait = Wait::For(Span::from(time));
        self.obtain().await
    }

    /// Waits as long as the session lives.
    ///
    /// # Errors
    /// A refusal, [`Error::Lost`].
    pub async fn forever(mut self) -> Result<Vec<Guard>, Error> {
        self.ask.wait = Wait::Forever;
        self.obtain().await
    }

    async fn obtain(mut self) -> Result<Vec<Guard>, Error> {
        settle(&mut self.ask, self.shortcut);
        let claim = self.ask.claim()?;
        let requests = self.names.iter().map(|name| self.ask.request(name, claim)).collect();
        let pending = self.link.submit(&Op::LockMany(requests)).map_err(|why| self.link.explain(why))?;
        match pending.outcome().await {
            Reply::GrantedMany(grants) if grants.len() == self.names.len() => {
                let mut guards = Vec::with_capacity(grants.len());
                for (name, grant) in self.names.iter().zip(grants) {
                    guards.push(Guard::new(self.link.clone(), name, self.ask.clone(), grant));
                }
                self.link.check()?;
                Ok(guards)
            }
            Reply::Refused(why) => Err(self.link.explain(why)),
            other => Err(unexpected(&other)),
        }
    }
}

impl<'a> IntoFuture for ManyBuilder<'a> {
    type Output = Result<Vec<Guard>, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.forever())
    }
}
