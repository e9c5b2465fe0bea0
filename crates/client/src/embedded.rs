//! In-process engine (signatures).
use crate::{
    Client, Lost,
    desk::{Desk, Ticket, Undo},
    link::Asked,
};
use lockstead_client_core::Lease;
use lockstead_types::{Refusal, SessionId, request::Op};
use std::sync::Arc;

/// A lock manager in this process.
#[derive(Clone)]
pub struct Engine;
impl Engine {
    /// A new engine.
    pub fn embedded() -> Engine {
        Engine
    }
    /// A session with it.
    pub fn client(&self) -> Client {
        Client::from_link(crate::link::Link::Embedded(Arc::new(EmbeddedSession)))
    }
}
pub(crate) struct EmbeddedSession;
#[allow(unused_variables)]
impl EmbeddedSession {
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
    pub(crate) fn with_desk<R>(&self, f: impl FnOnce(&mut Desk) -> R) -> R {
        f(&mut Desk::new())
    }
    pub(crate) fn close(&self) {}
    pub(crate) fn kill(&self) {}
    pub(crate) fn session_id(&self) -> SessionId {
        SessionId(0)
    }
}
