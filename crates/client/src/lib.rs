//! Locks from the Lockstead distributed lock manager: with fencing tokens, leases that say when they are lost, and notices
//! when somebody waits. The same API works in process, without any server.
//!
//! ```no_run
//! # async fn example() -> Result<(), lockstead::Error> {
//! use core::time::Duration;
//!
//! let client = lockstead::Client::from_env().await?; // LOCKSTEAD_ENDPOINTS, or 127.0.0.1:7600
//! let guard = client.lock("orders/7").exclusive().wait(Duration::from_secs(3)).await?;
//! println!("holding it under token {}", guard.token());
//! guard.release().await?;
//! # Ok(()) }
//! ```
//!
//! In process, which is also what a test of your own needs:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), lockstead::Error> {
//! let engine = lockstead::Engine::embedded();
//! let (alice, bob) = (engine.client(), engine.client());
//!
//! let held = alice.lock("orders/7").await?;
//! assert!(bob.lock("orders/7").shared().try_now().await?.is_none());
//! drop(held);
//! let next = bob.lock("orders/7").shared().try_now().await?.expect("it is free now");
//! assert_eq!(next.mode_name(), "PR");
//! # Ok(()) }
//! ```
//!
//! # What a guard promises
//!
//! A remote session holds its locks by a lease, renewed in the background every third of it. If renewals fail, the guard is
//! [`Lease::Unsure`], then [`Lease::Lost`]: at a deadline that this client computes from its own clock, before the service
//! gives the lock to anybody else. So:
//!
//! * call [`Guard::check`] before each guarded step, never keep its answer across an `await`;
//! * choose the lease ([`ClientBuilder::ttl`]) longer than the longest pause you expect plus three renewals;
//! * carry [`Guard::token`] to the guarded resource and let it check it, see [`fence`]: between a check here and the step
//!   there, any process may be stopped for any time.
//!
//! Once lost, always lost: nothing succeeds under the old session any more; connect again.
//!
//! # Cancellation
//!
//! Every future here may be dropped at any time. A dropped lock request leaves nothing in a queue; if its grant had already
//! been given, it is given back.
//!
//! # Watching who waits
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), lockstead::Error> {
//! let engine = lockstead::Engine::embedded();
//! let (reader, writer) = (engine.client(), engine.client());
//!
//! let mut cached = reader.lock("catalogue").shared().await?;
//! let write = writer.lock("catalogue").exclusive();
//! let give_way = async {
//!     let wanted = cached.blocking().next().await; // somebody wants more than we allow
//!     assert!(wanted.is_some());
//!     cached.convert("NL").await // keep our place, allow everything
//! };
//! let (written, given) = tokio::join!(write.into_future(), give_way);
//! # use core::future::IntoFuture;
//! given?;
//! written?.release().await?;
//! # Ok(()) }
//! ```
#![forbid(unsafe_code)]

pub mod endpoint;
pub mod fence;
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
mod transaction;
mod watch;

pub use client::{Client, ClientBuilder};
pub use embedded::Engine;
pub use error::{Error, Lost, Tried, Trouble};
pub use fence::{FenceGate, Stale};
pub use group::Group;
pub use guard::{Blocking, ConvertBuilder, Guard};
pub use lock::{Acquire, LockBuilder, ManyBuilder};
pub use lockstead_client_core::Lease;
pub use lockstead_types as types;
pub use lockstead_types::{
    Age, Extent, Flags, LockId, Mode, ModeTable, Refusal, SessionId, SpaceId, Token,
    extent::{Condition, Interval},
    reply::Value,
    request::{Claim, Query},
    space::SpaceSpec,
};
pub use space::Space;
pub use transaction::Transaction;
pub use watch::{Watch, WatchEvent};

/// The examples of the project's front page, as tests.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct FrontPage;
