//! Between nodes of the group: one call at a time on a connection, a frame there and a frame back.

mod dial;
mod frame;
mod message;
mod raft;
mod serve;

pub use frame::RAFT_MAGIC;

pub(crate) use dial::{CallError, Dialer};
pub(crate) use message::{Answer, Call, PROPOSED_AT_ONCE, Promised};
pub(crate) use raft::Network;
pub(crate) use serve::{propose, serve};
