//! Sockets: listening, reading, writing.

pub(crate) mod conn;
pub(crate) mod event_loop;
pub(crate) mod listener;
pub(crate) mod outbox;
pub(crate) mod reader;
