//! A client: one session, from which locks, groups, watches and looks at the state are made.

use core::{future::poll_fn, time::Duration};
use std::os::fd::OwnedFd;

use lockstead_client_core::Lease;
use lockstead_types::{
    SessionId, SpaceId, Span, Token,
    reply::Reply,
    report::{Deadlocks, MemberRow, NodeStatus, Report, ResourceDetail, ResourceRow, SessionRow, Waits},
    request::{Claim, ClusterOrder, MemberOrder, Op, Query},
    space::SpaceSpec,
};

use crate::{
    Error, Group, LockBuilder, Lost, ManyBuilder, Space, Watch, endpoint,
    link::Link,
    lock::Ask,
    remote::{self, Settings},
    space,
};

/// A session with the service, cheap to clone: clones share the session. It says goodbye, and so releases what it holds,
/// when the last clone and the last guard are dropped; [`Client::close`] waits until the service has heard it.
#[derive(Clone)]
pub struct Client {
    link: Link,
}

/// How to connect. Made by [`Client::builder`].
#[derive(Clone, Debug)]
pub struct ClientBuilder {
    endpoints: Option<String>,
    preferred: Option<String>,
    ttl: Duration,
    purpose: String,
    program: Option<String>,
    within: Option<SessionId>,
    connect_timeout: Duration,
    patient: bool,
    guard: Duration,
}

impl Client {
    /// Connects to `endpoints` (see [`crate::endpoint`]) with the default lease of 10 s, and opens a session.
    /// Needs a tokio runtime with I/O and time enabled.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::Connect`], [`Error::Rejected`].
    pub async fn connect(endpoints: &str) -> Result<Client, Error> {
        Client::builder().endpoints(endpoints).connect().await
    }

    /// Connects to the endpoints in `LOCKSTEAD_ENDPOINTS`, or 127.0.0.1:7600.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn from_env() -> Result<Client, Error> {
        Client::builder().connect().await
    }

    /// For everything that can be chosen.
    #[must_use]
    pub fn builder() -> ClientBuilder {
        ClientBuilder {
            endpoints: None,
            preferred: None,
            ttl: Duration::from_secs(10),
            purpose: String::new(),
            program: None,
            within: None,
            connect_timeout: Duration::from_secs(5),
            patient: true,
            guard: Duration::from_millis(10),
        }
    }

    pub(crate) fn from_link(link: Link) -> Client {
        Client { link }
    }

    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    /// A lock, by default exclusive, in the lockspace `default`, alone ([`LockBuilder::owned_by_session`] changes that).
    /// Nothing is asked before the builder's end is awaited.
    pub fn lock<N: AsRef<[u8]>>(&self, name: N) -> LockBuilder<'_, N> {
        LockBuilder::new(&self.link, name, Ask::default())
    }

    /// `take` of the `of` permits a resource has. All who ask must name the same `of`.
    pub fn permits<N: AsRef<[u8]>>(&self, name: N, take: u32, of: u32) -> LockBuilder<'_, N> {
        let claim = Some(Claim::Permits { take, of });
        LockBuilder::new(&self.link, name, Ask { claim, ..Ask::default() })
    }

    /// Several names at once, all or none, without deadlock among such requests.
    pub fn lock_many<N: AsRef<[u8]>>(&self, names: impl IntoIterator<Item = N>) -> ManyBuilder<'_> {
        ManyBuilder::new(&self.link, names.into_iter().map(|n| n.as_ref().into()).collect())
    }

    /// A lockspace by name.
    ///
    /// # Errors
    /// `no-lockspace` where there is none.
    pub async fn space(&self, name: &str) -> Result<Space, Error> {
        space::open(&self.link, Op::SpaceOpen { name }, name).await
    }

    /// Creates a lockspace.
    ///
    /// # Errors
    /// `exists` where there is one of that name, `invalid` for a spec that makes no sense.
    pub async fn create_space(&self, spec: SpaceSpec) -> Result<Space, Error> {
        let name = spec.name.clone();
        space::open(&self.link, Op::SpaceCreate(spec.into()), &name).await
    }

    /// Drops a lockspace; with `force` also one that holds locks, whose holders are told.
    ///
    /// # Errors
    /// `no-lockspace`; `busy` where it holds locks and not `force`.
    pub async fn drop_space(&self, name: &str, force: bool) -> Result<(), Error> {
        done(self.link.ask(Op::SpaceDrop { name, force }).await?)
    }

    /// Joins a group of that name, and makes it if need be: its members own locks together.
    ///
    /// # Errors
    /// `limit:groups`, `limit:members-per-group`.
    pub async fn group<N: AsRef<[u8]>>(&self, name: N) -> Result<Group, Error> {
        Group::attach(&self.link, name.as_ref()).await
    }

    /// Whether the lease is held, unsure or lost, by the clock, now.
    #[must_use]
    pub fn state(&self) -> Lease {
        self.link.lease()
    }

    /// Whether guarded work may be started now.
    ///
    /// # Errors
    /// [`Lost`] from the client's own deadline on, whatever was heard or not.
    pub fn check(&self) -> Result<(), Lost> {
        self.link.check()
    }

    /// How long until the deadline unless the lease is renewed; `None` for an embedded session, which has none.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        self.link.left().map(Duration::from)
    }

    /// Ends when the session is lost. Cancellation safe.
    pub async fn lost(&self) -> Lost {
        poll_fn(|cx| self.link.with_desk(|desk| desk.poll_lost(cx.waker()))).await
    }

    /// Says goodbye and waits until the service has heard it. Every lock of the session is released, every request under
    /// way answered `lost`.
    ///
    /// # Errors
    /// [`Error::Lost`] where the session was lost before.
    pub async fn close(self) -> Result<(), Error> {
        self.link.close().await
    }

    /// The id of the session.
    #[must_use]
    pub fn session_id(&self) -> SessionId {
        self.link.session_id()
    }

    /// Goes to another node with all it holds and asks: `HOST:PORT`, or `tcp://HOST:PORT`, which need not be one of the client's
    /// endpoints. Nothing is lost by it. Waits until the session has come there.
    ///
    /// # Errors
    /// [`Error::Connect`] where it came to another node instead, [`Error::Lost`], `busy` for a local or embedded session, which
    /// lives with its node.
    pub async fn move_to(&self, endpoint: &str) -> Result<(), Error> {
        self.link.move_to(endpoint).await
    }

    /// A copy of the Unix socket of a local session, so that a child process can inherit it: the session then lives as
    /// long as one of them has it open. `None` over TCP and in process.
    #[must_use]
    pub fn unix_socket(&self) -> Option<OwnedFd> {
        self.link.unix_socket()
    }

    /// Looks.
    ///
    /// # Errors
    /// `no-lockspace` where the query names one that is not there.
    pub async fn query(&self, query: Query<'_>) -> Result<Report, Error> {
        match self.link.ask(Op::Query(query)).await? {
            Reply::Report(report) => Ok(*report),
            other => Err(unexpected(&other)),
        }
    }

    /// All resources of a lockspace that have locks and whose names start with `prefix`, in the order of their names.
    ///
    /// # Errors
    /// As [`Client::query`].
    pub async fn resources(&self, space: SpaceId, prefix: &[u8]) -> Result<Vec<ResourceRow>, Error> {
        let (mut all, mut from) = (Vec::new(), 0);
        loop {
            let Report::Resources { mut rows, next } = self.query(Query::Resources { space, prefix, from }).await?
            else {
                return Err(Error::Protocol("a report of another kind than asked for".into()));
            };
            all.append(&mut rows);
            match next {
                Some(next) => from = next,
                None => break,
            }
        }
        all.sort_unstable_by(|a: &ResourceRow, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// One resource with its three queues, `None` where no lock is on it. Of long queues the heads: `left_out` says how much
    /// more there is.
    ///
    /// # Errors
    /// As [`Client::query`].
    pub async fn show<N: AsRef<[u8]>>(&self, space: SpaceId, name: N) -> Result<Option<ResourceDetail>, Error> {
        match self.query(Query::Resource { space, name: name.as_ref() }).await? {
            Report::Resource(detail) => Ok(detail.map(|d| *d)),
            _ => Err(Error::Protocol("a report of another kind than asked for".into())),
        }
    }

    /// Who waits for whom. Where that is more than one answer holds, `more` is set and `waiting` says how many wait in all.
    ///
    /// # Errors
    /// As [`Client::query`].
    pub async fn waits(&self) -> Result<Waits, Error> {
        match self.query(Query::Waits).await? {
            Report::Waits(waits) => Ok(waits),
            _ => Err(Error::Protocol("a report of another kind than asked for".into())),
        }
    }

    /// All sessions, by id.
    ///
    /// # Errors
    /// As [`Client::query`].
    pub async fn sessions(&self) -> Result<Vec<SessionRow>, Error> {
        let mut all: Vec<SessionRow> = Vec::new();
        loop {
            let after = all.last().map(|r| r.session);
            match self.query(Query::Sessions { after }).await? {
                Report::Sessions { rows, more } => {
                    let stuck = rows.is_empty();
                    all.extend(rows);
                    if !more || stuck {
                        return Ok(all);
                    }
                }
                _ => return Err(Error::Protocol("a report of another kind than asked for".into())),
            }
        }
    }

    /// Deadlocks the node remembers, oldest first. `left_out` says how many older ones the answer has no room for.
    ///
    /// # Errors
    /// As [`Client::query`].
    pub async fn deadlocks(&self) -> Result<Deadlocks, Error> {
        match self.query(Query::Deadlocks).await? {
            Report::Deadlocks(found) => Ok(found),
            _ => Err(Error::Protocol("a report of another kind than asked for".into())),
        }
    }

    /// The node, in numbers.
    ///
    /// # Errors
    /// As [`Client::query`].
    pub async fn status(&self) -> Result<NodeStatus, Error> {
        match self.query(Query::Status).await? {
            Report::Status(status) => Ok(*status),
            _ => Err(Error::Protocol("a report of another kind than asked for".into())),
        }
    }

    /// The SCN, the logical clock of the service: not below any token that was given before this was asked, at whichever node, and
    /// below every token that the node of this session gives after. Of two answers the later is not the lower one, also where
    /// different clients asked different nodes.
    ///
    /// # Errors
    /// As [`Client::query`].
    pub async fn scn(&self) -> Result<Token, Error> {
        // Every message of a node says the newest number it has seen; this one is answered when all nodes have sent some.
        self.sync().await?;
        let status = self.status().await?;
        // A node that gave none in this epoch: the next one is the epoch's first.
        Ok(status.token.max(Token::new(status.epoch, 0).unwrap_or(Token::NONE)))
    }

    /// Lockspaces with their numbers.
    ///
    /// # Errors
    /// As [`Client::query`].
    pub async fn spaces(&self) -> Result<Vec<(SpaceId, SpaceSpec)>, Error> {
        match self.query(Query::Spaces).await? {
            Report::Spaces(spaces) => Ok(spaces),
            _ => Err(Error::Protocol("a report of another kind than asked for".into())),
        }
    }

    /// The members of the cluster as the node knows them; none where it is alone.
    ///
    /// # Errors
    /// As [`Client::query`].
    pub async fn members(&self) -> Result<Vec<MemberRow>, Error> {
        match self.query(Query::Members).await? {
            Report::Members(members) => Ok(members),
            _ => Err(Error::Protocol("a report of another kind than asked for".into())),
        }
    }

    /// Changes who is a member of the cluster; done when the members have agreed. The reason is kept.
    ///
    /// # Errors
    /// `not-held` where there is no such member, `exists` or `busy` where its state forbids it, `invalid` without a reason or
    /// at a node alone.
    pub async fn order_cluster(&self, what: MemberOrder, reason: &str) -> Result<(), Error> {
        let order = ClusterOrder { what, reason: reason.to_owned() };
        done(self.link.ask(Op::Cluster(Box::new(order))).await?)
    }

    /// Every change from now on, of resources whose names start with `prefix`.
    ///
    /// # Errors
    /// `no-lockspace`, `limit:watches`.
    pub async fn watch(&self, space: SpaceId, prefix: &[u8]) -> Result<Watch, Error> {
        Watch::open(&self.link, space, prefix).await
    }

    /// Takes a lock from its holder. The token must be the lock's now, and the reason is kept.
    ///
    /// # Errors
    /// `not-held` where the token is not that of a lock there, `invalid` without a reason.
    pub async fn force_release<N: AsRef<[u8]>>(
        &self,
        space: SpaceId,
        name: N,
        token: Token,
        reason: &str,
    ) -> Result<(), Error> {
        let op = Op::ForceRelease { space, name: name.as_ref(), token, reason };
        done(self.link.ask(op).await?)
    }

    /// Ends another session at once, as if its lease had run out.
    ///
    /// # Errors
    /// `not-held` where there is none of that id, `invalid` without a reason.
    pub async fn end_session(&self, session: SessionId, reason: &str) -> Result<(), Error> {
        done(self.link.ask(Op::EndSession { session, reason }).await?)
    }

    /// Drops orphans of a lockspace, all or those of one session that is gone; how many there were.
    ///
    /// # Errors
    /// `no-lockspace`.
    pub async fn purge(&self, space: SpaceId, session: Option<SessionId>) -> Result<u32, Error> {
        match self.link.ask(Op::Purge { space, session }).await? {
            Reply::Purged(count) => Ok(count),
            other => Err(unexpected(&other)),
        }
    }

    /// Ends when everything this session asked before has had all its effects.
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub async fn sync(&self) -> Result<(), Error> {
        done(self.link.ask(Op::Sync).await?)
    }
}

impl ClientBuilder {
    /// Where to connect to (see [`crate::endpoint`]); without it `LOCKSTEAD_ENDPOINTS`, or 127.0.0.1:7600.
    #[must_use]
    pub fn endpoints(mut self, endpoints: impl Into<String>) -> Self {
        self.endpoints = Some(endpoints.into());
        self
    }

    /// The endpoint to begin with, instead of any of the list; it need not be in it. The session is a remote one.
    #[must_use]
    pub fn prefer(mut self, endpoint: impl Into<String>) -> Self {
        self.preferred = Some(endpoint.into());
        self
    }

    /// The lease, 10 s if not said; the node brings it within its limits. Choose it longer than the longest pause you
    /// expect plus three renewals: a renewal is sent every third of it.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// What for: shown to whoever asks who holds a lock.
    #[must_use]
    pub fn purpose(mut self, purpose: impl Into<String>) -> Self {
        self.purpose = purpose.into();
        self
    }

    /// The program's name, by default that of the executable.
    #[must_use]
    pub fn program(mut self, program: impl Into<String>) -> Self {
        self.program = Some(program.into());
        self
    }

    /// The session this one runs within, if not said none: for a program that another waits for before it gives up its own
    /// locks, as `lockstead lock` does, which says its session in `LOCKSTEAD_SESSION`. So a cycle over both is found, and
    /// one wait in it refused with [`Refusal::Deadlock`](crate::Refusal::Deadlock). Only waits of locks that are
    /// [owned by the session](crate::LockBuilder::owned_by_session) are seen; a session of another server or user is as
    /// none.
    #[must_use]
    pub fn within(mut self, session: SessionId) -> Self {
        self.within = Some(session);
        self
    }

    /// How long connecting and opening the session may take, 5 s if not said.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Gives up as soon as each endpoint has failed once, instead of trying them again until the connect timeout.
    #[must_use]
    pub fn try_each_once(mut self) -> Self {
        self.patient = false;
        self
    }

    /// How much earlier than its lease allows the client calls itself lost, 10 ms if not said: the time a guarded step may
    /// take after it was checked.
    #[must_use]
    pub fn safety_margin(mut self, margin: Duration) -> Self {
        self.guard = margin;
        self
    }

    /// Connects and opens the session.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn connect(self) -> Result<Client, Error> {
        if self.ttl <= self.guard {
            // Such a lease is over before it begins, which would look like a node that does not answer.
            return Err(Error::Config(format!("a lease of {:?} is not longer than its safety margin", self.ttl)));
        }
        let text = self.endpoints.unwrap_or_else(endpoint::from_env);
        let endpoints = match &self.preferred {
            Some(preferred) => endpoint::parse_remote(&format!("{preferred},{text}"))?,
            None => endpoint::parse(&text)?,
        };
        let settings = Settings {
            endpoints,
            in_order: self.preferred.is_some(),
            ttl: Span::from(self.ttl),
            guard: Span::from(self.guard),
            meta: crate::meta::of_process(self.program.as_deref(), &self.purpose, self.within),
            connect_timeout: self.connect_timeout,
            patient: self.patient,
        };
        Ok(Client { link: Link::Remote(remote::connect(settings).await?) })
    }
}

pub(crate) fn done(reply: Reply) -> Result<(), Error> {
    match reply {
        Reply::Done | Reply::Released | Reply::Cancelled => Ok(()),
        other => Err(unexpected(&other)),
    }
}

pub(crate) fn unexpected(reply: &Reply) -> Error {
    Error::Protocol(format!("an answer that does not fit the request: {reply:?}"))
}
