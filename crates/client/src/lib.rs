//! Placeholder front page (replaced below).
#![forbid(unsafe_code)]

pub mod endpoint;
pub mod raw;

mod client;
mod clock;
mod desk;
mod embedded;
mod error;
mod group;
mod guard;
mod link;
mod lock;
mod meta;
mod remote;
mod space;
mod watch;

pub use client::{Client, ClientBuilder};
pub use embedded::Engine;
pub use error::{Error, Lost};
pub use group::Group;
pub use guard::{Blocking, ConvertBuilder, Guard};
pub use lock::{Acquire, LockBuilder, ManyBuilder};
pub use lockstead_client_core::Lease;
pub use lockstead_types as types;
pub use lockstead_types::{
    Flags, LockId, Mode, ModeTable, Refusal, SessionId, SpaceId, Token,
    fence::{FenceGate, Stale},
    reply::Value,
    request::{Claim, Query},
    space::SpaceSpec,
};
pub use space::Space;
pub use watch::{Watch, WatchEvent};
