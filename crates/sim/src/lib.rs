//! The deterministic simulator: nodes, clients and what lies between them, in true time, under faults drawn from a seed.
//!
//! It drives the code that ships (`lockstead_node::Node`, `lockstead_client_core::Session`); only shells, sockets, disks
//! and the consensus library are replaced, by [`Options`] that break them. A run has two phases: under fire nothing unsafe
//! may happen; then faults stop, and everything must come to an end. One seed is one run: the same seed gives the
//! same run, to the last event.
//!
//! Reading order: `options.rs` (what may go wrong), `world.rs` (time and the queue), `nodes.rs`, `clients.rs`, `app.rs`, `net.rs`,
//! `group.rs`, `faults.rs`, `operator.rs`; `judge.rs` and `invariants/` (what must hold, by what is true), `history.rs` and `model.rs`
//! (by what programs were told).
#![forbid(unsafe_code)]

mod invariants;
#[cfg(feature = "planted")]
mod mutations;
mod options;
mod run;
mod shrink;

mod clock;
mod queue;
mod random;
mod trace;

mod app;
mod calm;
mod clients;
mod deals;
mod faults;
mod forge;
mod group;
mod history;
mod judge;
mod model;
mod net;
mod nodes;
mod operator;
mod resource;
mod world;

pub use invariants::Code;
pub use judge::Violation;
#[cfg(feature = "planted")]
pub use mutations::{Hunt, mutations};
pub use options::{Fault, Mix, Options};
pub use run::{Outcome, catch_panics, run};
pub use shrink::shrink;
