//! The client of Lockstead as a state machine: one session, its lease, its requests and its locks.
//!
//! A [`Session`] is a plain value: it has no clock, no socket, no randomness and no task. Whoever drives it (the `lockstead`
//! crate, or a simulator) does this:
//!
//! 1. Make it with [`Session::new`]. It wants to connect.
//! 2. After *every* call of a method that takes `now`, call [`Session::poll_output`] until it gives `None`, and do what each
//!    [`Output`] says **in that order**:
//!    * [`Output::Connect`]: try to connect, to whichever endpoint is next, for [`Session::connect_within`] at most. Tell the
//!      outcome with [`Input::Connected`] or [`Input::Disconnected`]. At most one connection exists at a time.
//!    * [`Output::Send`]: encode it and write it over the connection, in order. Writing may be late, never out of order.
//!      Output that borrows from the session ends with the next call.
//!    * [`Output::Disconnect`]: drop the connection, after writing what was sent before it where that needs no waiting. No
//!      [`Input::Disconnected`] is expected for it.
//!    * [`Output::Answer`], [`Output::Notice`], [`Output::LockLost`], [`Output::Lease`]: for the application.
//!    * [`Output::Opened`], [`Output::Rejected`], [`Output::Over`]: the session opened for the first time, was turned away,
//!      is over.
//! 3. What arrives is told with [`Session::handle`], one message at a time; a broken connection with
//!    [`Input::Disconnected`].
//! 4. Not later than [`Session::poll_deadline`] call [`Session::handle`] with [`Input::Tick`]. The deadline may move with any
//!    call.
//! 5. The application's requests go in with [`Session::request`], and are answered once each, [`Reply::Queued`] aside, with
//!    the key that came with them.
//!
//! `now` is the client's own clock (`CLOCK_BOOTTIME`) and never goes back. A call may come late, as after a stop of the whole
//! process: whatever is told then, the session looks at the clock first and is lost if its deadline has passed ([SESS-4]).
//! So is [`Session::lease`]: it needs no call of `handle` before it to be right.
//!
//! Ids of locks, groups and requests here are the session's own and never change. The node's may change with its restart, and
//! change when the session comes to another node, after which it joins its groups again, claims what it holds, and asks again
//! what had no answer ([RESTART-7], [HOME-1]).
//!
//! Memory is bounded by what the application asks: locks it holds, requests it has open ([`Config::backlog`]).
//!
//! Reading order: `session.rs` (phases), `lease.rs` (the deadline), `requests.rs`, `locks.rs`, `answers.rs`, `restart.rs`, `home.rs`, `doubt.rs`.
//!
//! [`Reply::Queued`]: lockstead_types::reply::Reply::Queued
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod session;

mod answers;
mod ask;
mod doubt;
mod groups;
mod home;
mod lease;
mod locks;
mod op;
mod paths;
mod requests;
mod restart;
mod txn;

pub use lease::Lease;
pub use session::{Config, Ending, Input, Output, Session};
