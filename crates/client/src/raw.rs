//! The session without guards: requests in, answers and news out, as the service gives them. For tools that show what
//! happens (`lockstead shell`) or count it (`lockstead bench`); programs that guard something want [`crate::Client`].

use std::os::fd::OwnedFd;

use lockstead_client_core::Lease;
use lockstead_types::{SessionId, request::Op};

use crate::{Client, Error, Lost, link::Link};

pub use crate::{desk::News, link::Pending};

/// A session without guards. Cheap to clone.
#[derive(Clone)]
pub struct RawSession {
    link: Link,
}

impl RawSession {
    /// The session of a client.
    #[must_use]
    pub fn of(client: &Client) -> RawSession {
        RawSession { link: client.link().clone() }
    }

    /// Asks. The request is on its way when this returns; its answers come to the [`Pending`], in whatever order they are
    /// awaited. Dropping the [`Pending`] cancels the request.
    ///
    /// # Errors
    /// [`Error::Refused`] where it cannot even be asked (`not-held` for a lock id this session does not have,
    /// `limit:in-flight`), [`Error::Lost`].
    #[expect(clippy::needless_pass_by_value, reason = "an operation is made to be asked, and asked once")]
    pub fn submit(&self, op: Op<'_>) -> Result<Pending, Error> {
        self.link.submit(&op).map_err(|why| self.link.explain(why))
    }

    /// Asks without waiting for an answer.
    #[expect(clippy::needless_pass_by_value, reason = "an operation is made to be asked, and asked once")]
    pub fn post(&self, op: Op<'_>) {
        self.link.post(&op);
    }

    /// News from now on. One reader a session: a second call takes over the first one's.
    #[must_use]
    pub fn notices(&self) -> Notices {
        self.link.with_desk(crate::desk::Desk::open_feed);
        Notices { link: self.link.clone() }
    }

    /// Whether the lease is held, unsure or lost.
    #[must_use]
    pub fn state(&self) -> Lease {
        self.link.lease()
    }

    /// As [`Client::check`].
    ///
    /// # Errors
    /// [`Lost`].
    pub fn check(&self) -> Result<(), Lost> {
        self.link.check()
    }

    /// Drops the connection without a goodbye and does not come back, as a crash would: the service keeps what a remote
    /// session holds until its lease has run out.
    pub fn kill(&self) {
        self.link.kill();
    }

    /// As [`Client::move_to`].
    ///
    /// # Errors
    /// Those.
    pub async fn move_to(&self, endpoint: &str) -> Result<(), Error> {
        self.link.move_to(endpoint).await
    }

    /// As [`Client::close`].
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub async fn close(self) -> Result<(), Error> {
        self.link.close().await
    }

    /// As [`Client::session_id`].
    #[must_use]
    pub fn session_id(&self) -> SessionId {
        self.link.session_id()
    }

    /// As [`Client::unix_socket`].
    #[must_use]
    pub fn fd(&self) -> Option<OwnedFd> {
        self.link.unix_socket()
    }
}

impl Client {
    /// The session without guards.
    #[must_use]
    pub fn raw(&self) -> RawSession {
        RawSession::of(self)
    }
}

/// News of a session, in order.
pub struct Notices {
    link: Link,
}

impl Notices {
    /// The next piece of news, `None` once the session is over. Cancellation safe: dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<News> {
        core::future::poll_fn(|cx| self.link.with_desk(|desk| desk.poll_feed(cx.waker()))).await
    }

    /// What has come and was not read yet, without waiting.
    pub fn try_next(&mut self) -> Option<News> {
        let waker = core::task::Waker::noop();
        match self.link.with_desk(|desk| desk.poll_feed(waker)) {
            core::task::Poll::Ready(news) => news,
            core::task::Poll::Pending => None,
        }
    }
}

impl Drop for Notices {
    fn drop(&mut self) {
        self.link.with_desk(crate::desk::Desk::close_feed);
    }
}
