//! One node: connections, sessions and their leases, requests with one effect each, groups, all-or-nothing requests,
//! the freeze after a restart, around one [`lockstead_table::Table`].
//!
//! A plain value without clock, randomness or I/O. The shell tells it what happened with [`Node::handle`], does what
//! [`Node::poll_output`] says in that order, and calls again with [`Input::Tick`] when [`Node::poll_deadline`] has come.
//! Rules are numbered in `docs/semantics.md`: SESS, RESTART, GROUP, MANY and AUTH are decided here.
//!
//! Reading order: [`Input`] and [`Output`] (`io.rs`), `node.rs`, `handshake.rs`, `session.rs`, `ledger.rs`, `request.rs`,
//! `effects.rs`; then `many.rs`, `groups.rs`, `restart.rs`, `spaces.rs`, `look.rs`, `watch.rs`.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod io;
mod node;
mod principal;

mod authorize;
mod conn;
mod ending;
mod handshake;
mod ledger;
mod session;

mod effects;
mod request;

mod cluster_ops;
mod force;
mod group_members;
mod group_requests;
mod groups;
mod hierarchy;
mod many;
mod member;
mod path;
mod restart;
mod spaces;
mod tree;
mod txn;
mod watch;

mod check;
mod counters;
mod look;
mod owners;
mod reports;
mod slab;

pub use io::{Input, NodeConfig, Output, Record, SessionRecord};
pub use member::{MemberConfig, ROWS_A_TURN};
pub use node::Node;
pub use principal::Principal;
