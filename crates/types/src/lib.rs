//! Words of the field: modes and mode tables as data, names, ids, requests, replies, time, limits, tokens.
//!
//! Pure: no clock, no randomness, no I/O, no async. Every other crate imports this one, and this one imports none of
//! them. A type here never knows how it looks on a wire (`lockstead-wire` maps it) nor what the lock manager does with
//! it (`lockstead-table` decides).
//!
//! Reading order: [`mode`], [`tables`], [`name`], [`extent`], [`ids`], [`token`], [`request`], [`reply`], [`report`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod hierarchy;
pub mod mode;
pub mod tables;

pub mod extent;
pub mod ids;
pub mod name;
pub mod time;
pub mod token;

pub mod age;
pub mod chase;
pub mod flags;
pub mod message;
pub mod refusal;
pub mod reply;
pub mod report;
pub mod request;

pub mod fence;
pub mod limits;
pub mod space;

pub mod peer;
#[cfg(feature = "planted")]
pub mod planted;
pub mod rows;
pub mod seal;
pub mod slot;
pub mod transaction;

pub use age::Age;
pub use extent::Extent;
pub use flags::Flags;
pub use ids::{ConnId, GroupId, LockId, NodeId, RequestId, SessionId, SpaceId};
pub use limits::{LimitName, Limits};
pub use mode::{Mode, ModeSet, ModeTable};
pub use refusal::Refusal;
pub use seal::{Seal, Sealed};
pub use slot::{Slot, SlotSet};
pub use time::{Span, Time};
pub use token::Token;
