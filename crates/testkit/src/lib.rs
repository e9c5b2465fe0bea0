//! Scenarios: text files of script lines with the expected output beneath, run against a node in memory.
//!
//! ```text
//! # [GRANT-1] What an exclusive request waits for.
//! a: lock orders PR
//! b: lock orders EX
//! ----
//! a: orders granted PR token=#1
//! b: orders waiting EX
//! a: orders blocking EX
//! ```
//!
//! The lines are those of `lockstead shell` ([`lockstead_script`]) and a few directives that only a test may have: limits,
//! lockspaces, broken connections, a restart of the node ([`Directive`]). There are no sockets and no clock: `sleep` moves
//! simulated time. After every step the node proves its whole state, and every new token must be above all before it.
//! `docs/scenarios.md` tells how to write one.
//!
//! Reading order: [`scenario`], `world.rs`, `seat.rs`, [`directive`], `diff.rs`.
#![forbid(unsafe_code)]

pub mod directive;
pub mod scenario;

mod diff;
mod operator;
mod seat;
mod world;

pub use directive::Directive;
pub use scenario::{Failure, Scenario};
pub use world::{Broken, World};
