//! The membership group of a cluster: one log of [`lockstead_cluster::Command`]s that all nodes apply in the same order, kept by
//! openraft on redb.
//!
//! [`Membership`] is all that others see: they hand it connections and commands, and it tells them [`Event`]s. That openraft and redb
//! are behind it, nobody outside this crate knows.
#![forbid(unsafe_code)]

mod book;
mod clock;
mod codec;
mod courier;
mod event;
mod force;
mod group;
mod leader;
mod membership;
mod net;
mod shared;
mod starts;
mod store;
mod voters;

pub use event::Event;
pub use force::{Inspection, force_quorum, inspect};
pub use membership::{Config, Membership, Status, Timing};
pub use net::RAFT_MAGIC;
