//! The shell of a Lockstead node: the only crate that does I/O for one. Sockets, clock, data directory, configuration,
//! metrics; every decision is made in `lockstead-node`.
//!
//! Reading order: [`Server`] (`server.rs`), `shared.rs` (a turn), `guarded.rs` (what the one lock guards), `net/event_loop.rs`,
//! `net/reader.rs`, `net/outbox.rs`; then `data/` (what survives a restart) with `sync.rs`, `cluster/` (a node among others),
//! `config/`, `admin/`.

mod admin;
mod clock;
mod cluster;
pub mod config;
mod data;
mod guarded;
mod logging;
mod net;
pub mod rescue;
mod server;
mod shared;
mod stats;
mod sync;

pub use cluster::{
    start::Cancel,
    who::{Who, ask as who_is},
};
pub use config::{ConfigError, FileConfig, ServerConfig};
pub use data::DataError;
pub use server::{Failed, Running, Server, StartError, Stopper};
