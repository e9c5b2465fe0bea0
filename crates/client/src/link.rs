//! The two ways a session reaches a node: over a connection, or in the same process. Everything above sees only [`Link`].

use core::{task::Context, task::Poll};
use std::{os::fd::OwnedFd, sync::Arc};

use lockstead_client_core::Lease;
use lockstead_types::{
    LockId, Refusal, Span,
    reply::Reply,
    request::{Op, Target},
};

use crate::{
    Lost,
    desk::{Desk, Ticket, Undo},
    embedded::EmbeddedSession,
    endpoint,
    remote::Remote,
};

/// A session, shared by everything made from it. It ends with the last of them.
#[derive(Clone)]
pub(crate) enum Link {
    Remote(Arc<Remote>),
    Embedded(Arc<EmbeddedSession>),
}

impl Link {
    /// Asks; the answer comes to the returned [`Pending`].
    pub(crate) fn submit(&self, op: &Op<'_>) -> Result<Pending, Refusal> {
        let undo = undo_of(op);
        Ok(self.pending(self.ask_now(op)?, undo))
    }

    /// Asks; gives the answer itself where it is there at once.
    pub(crate) fn ask_now(&self, op: &Op<'_>) -> Result<Asked, Refusal> {
        match self {
            Link::Remote(remote) => remote.submit(op),
            Link::Embedded(session) => session.submit(op),
        }
    }

    pub(crate) fn pending(&self, asked: Asked, undo: Undo) -> Pending {
        let state = match asked {
            Asked::Answered(reply) => State::Answered(reply),
            Asked::Ticket(ticket) => State::Waiting { ticket, undo },
        };
        Pending { link: self.clone(), state }
    }

    /// The guard of a lock is gone; `held` where it was not released before.
    pub(crate) fn drop_lock(&self, lock: LockId, held: bool) {
        match self {
            Link::Remote(remote) => remote.drop_lock(lock, held),
            Link::Embedded(session) => session.drop_lock(lock, held),
        }
    }

    /// Asks, and waits for the last answer.
    pub(crate) async fn ask(&self, op: Op<'_>) -> Result<Reply, crate::Error> {
        let pending = self.submit(&op).map_err(|why| self.explain(why))?;
        let reply = pending.outcome().await;
        self.accept(reply)
    }

    /// Asks without waiting for an answer: best effort.
    pub(crate) fn post(&self, op: &Op<'_>) {
        match self {
            Link::Remote(remote) => remote.post(op),
            Link::Embedded(session) => session.post(op),
        }
    }

    /// An answer as a result. Nothing guarded succeeds once the lease is lost, however late the answer is looked at.
    pub(crate) fn accept(&self, reply: Reply) -> Result<Reply, crate::Error> {
        self.check()?;
        match reply {
            Reply::Refused(why) => Err(self.explain(why)),
            other => Ok(other),
        }
    }

    /// `refused lost` says less than the session knows.
    pub(crate) fn explain(&self, why: Refusal) -> crate::Error {
        if matches!(why, Refusal::Deadlock | Refusal::Aborted) {
            self.with_desk(|desk| desk.must_retry = true);
        }
        match (why, self.check()) {
            (Refusal::Lost, Err(lost)) => crate::Error::Lost(lost),
            (Refusal::Lost, Ok(())) => crate::Error::Lost(Lost::Ended),
            (why, _) => crate::Error::Refused(why),
        }
    }

    pub(crate) fn lease(&self) -> Lease {
        match self {
            Link::Remote(remote) => remote.lease(),
            Link::Embedded(session) => session.lease(),
        }
    }

    /// Whether the session may still be acted under, by the clock, now.
    pub(crate) fn check(&self) -> Result<(), Lost> {
        match self {
            Link::Remote(remote) => remote.check(),
            Link::Embedded(session) => session.check(),
        }
    }

    /// How long until the deadline; `None` where there is none.
    pub(crate) fn left(&self) -> Option<Span> {
        match self {
            Link::Remote(remote) => Some(remote.left()),
            Link::Embedded(_) => None,
        }
    }

    pub(crate) fn with_desk<R>(&self, f: impl FnOnce(&mut Desk) -> R) -> R {
        match self {
            Link::Remote(remote) => remote.with_desk(f),
            Link::Embedded(session) => session.with_desk(f),
        }
    }

    /// Says goodbye and waits until the node has heard it.
    pub(crate) async fn close(&self) -> Result<(), crate::Error> {
        match self {
            Link::Remote(remote) => remote.close().await,
            Link::Embedded(session) => {
                session.close();
                Ok(())
            }
        }
    }

    /// Goes to another node, with everything it holds.
    pub(crate) async fn move_to(&self, endpoint: &str) -> Result<(), crate::Error> {
        let endpoint = endpoint::parse_remote(endpoint)?.into_iter().next();
        let endpoint = endpoint.ok_or_else(|| crate::Error::Config("no endpoint given".into()))?;
        match self {
            Link::Remote(remote) => remote.move_to(endpoint).await,
            Link::Embedded(_) => Err(crate::Error::Refused(Refusal::Busy)),
        }
    }

    pub(crate) fn kill(&self) {
        match self {
            Link::Remote(remote) => remote.kill(),
            Link::Embedded(session) => session.kill(),
        }
    }

    pub(crate) fn unix_socket(&self) -> Option<OwnedFd> {
        match self {
            Link::Remote(remote) => remote.unix_socket(),
            Link::Embedded(_) => None,
        }
    }

    pub(crate) fn session_id(&self) -> lockstead_types::SessionId {
        match self {
            Link::Remote(remote) => remote.session_id(),
            Link::Embedded(session) => session.session_id(),
        }
    }
}

/// What became of a request at once.
pub(crate) enum Asked {
    /// It has its last answer already.
    Answered(Reply),
    /// Its answers come to a slot.
    Ticket(Ticket),
}

/// A request under way. Dropping it cancels the request, and undoes it should it have been granted meanwhile.
pub struct Pending {
    link: Link,
    state: State,
}

enum State {
    Answered(Reply),
    Waiting { ticket: Ticket, undo: Undo },
    Over,
}

impl Pending {
    /// The next answer: [`Reply::Queued`] if it waits, then the last one; `None` after that. A session that is lost
    /// answers everything with `Refused(Lost)`.
    ///
    /// Cancellation safe: dropping the returned future loses no answer.
    pub async fn next(&mut self) -> Option<Reply> {
        core::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The last answer.
    pub(crate) async fn outcome(mut self) -> Reply {
        loop {
            match self.next().await {
                Some(Reply::Queued(_)) => {}
                Some(reply) => return reply,
                None => return Reply::Refused(Refusal::Lost),
            }
        }
    }

    /// Like [`Pending::next`], for hand-written futures.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Reply>> {
        match &mut self.state {
            State::Answered(_) => match core::mem::replace(&mut self.state, State::Over) {
                State::Answered(reply) => Poll::Ready(Some(reply)),
                _ => Poll::Ready(None),
            },
            State::Waiting { ticket, .. } => {
                let slot = ticket.slot;
                let poll = self.link.with_desk(|desk| desk.poll(slot, cx.waker()));
                if !matches!(poll, Poll::Pending | Poll::Ready(Some(Reply::Queued(_)))) {
                    self.state = State::Over;
                }
                poll
            }
            State::Over => Poll::Ready(None),
        }
    }

    /// The number of the request, by which another request may cancel it. `None` once it has its last answer.
    #[must_use]
    pub fn request(&self) -> Option<lockstead_types::RequestId> {
        match &self.state {
            State::Waiting { ticket, .. } => Some(ticket.request),
            State::Answered(_) | State::Over => None,
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let State::Waiting { ticket, undo } = self.state else { return };
        match &self.link {
            Link::Remote(remote) => remote.abandon(ticket, undo),
            Link::Embedded(session) => session.abandon(ticket, undo),
        }
    }
}

fn undo_of(op: &Op<'_>) -> Undo {
    match op {
        Op::Lock(_) | Op::LockMany(_) | Op::LockPath(_) => Undo::Release,
        Op::Convert(convert) => Undo::Note(convert.lock),
        Op::GroupAttach { .. } => Undo::Detach,
        Op::Begin { .. } => Undo::RollBack,
        _ => Undo::Nothing,
    }
}

/// The cancellation of an abandoned request, where it is one that may wait.
pub(crate) fn cancel_of(ticket: Ticket, undo: Undo) -> Option<Op<'static>> {
    match undo {
        Undo::Release | Undo::Note(_) => Some(Op::Cancel(Target::Request(ticket.request))),
        Undo::Detach | Undo::RollBack | Undo::Nothing => None,
    }
}
