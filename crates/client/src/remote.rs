//! Connection (signatures).
use crate::{
    Error, Lost,
    desk::{Desk, Ticket, Undo},
    endpoint::Endpoint,
    link::Asked,
};
use lockstead_client_core::Lease;
use lockstead_types::{Refusal, SessionId, Span, report::Meta, request::Op};
use std::{os::fd::OwnedFd, sync::Arc, time::Duration};

#[allow(dead_code)]
pub(crate) struct Settings {
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) ttl: Span,
    pub(crate) guard: Span,
    pub(crate) meta: Meta,
    pub(crate) connect_timeout: Duration,
}
pub(crate) async fn connect(_settings: Settings) -> Result<Arc<Remote>, Error> {
    Err(Error::Lost(Lost::Closed))
}
pub(crate) struct Remote;
#[allow(unused_variables)]
impl Remote {
    pub(crate) fn submit(&self, op: Op<'_>) -> Result<Asked, Refusal> {
        Err(Refusal::Lost)
    }
    pub(crate) fn post(&self, op: Op<'_>) {}
    pub(crate) fn abandon(&self, ticket: Ticket, undo: Undo) {}
    pub(crate) fn lease(&self) -> Lease {
        Lease::Lost
    }
    pub(crate) fn check(&self) -> Result<(), Lost> {
        Ok(())
    }
    pub(crate) fn left(&self) -> Span {
        Span::ZERO
    }
    pub(crate) fn with_desk<R>(&self, f: impl FnOnce(&mut Desk) -> R) -> R {
        f(&mut Desk::new())
    }
    pub(crate) async fn close(&self) -> Result<(), Error> {
        Ok(())
    }
    pub(crate) fn kill(&self) {}
    pub(crate) fn unix_socket(&self) -> Option<OwnedFd> {
        None
    }
    pub(crate) fn session_id(&self) -> SessionId {
        SessionId(0)
    }
}
