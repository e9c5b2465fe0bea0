//! What the nodes of a cluster agree on: epoch, members with incarnations, the slot map, lockspaces, the directory of
//! sessions.
//!
//! A [`State`] is changed by [`Command`]s alone, each a compare-and-set, in the one order the membership group gives them. All
//! nodes apply the same commands in the same order, so all have the same state, some a little later than others. Whoever
//! proposed a command learns its fate by applying it. The server feeds it from a consensus library, the simulator from a list.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod apply;
mod check;
mod command;
mod directory;
mod kept;
mod placing;
mod spread;
mod state;
mod steward;
mod voters;

pub use apply::{ADDRESS_BYTES, MEMBERS, WEIGHT};
pub use command::{Change, Command, EndWhy, Refused, Seat};
pub use directory::{PRINCIPAL_BYTES, SESSIONS, SPACES};
pub use kept::{KEPT, Kept};
pub use state::{Member, MemberState, Place, PlaceWhy, SessionEntry, SlotEntry, State};
pub use steward::{Steward, StewardConfig};
pub use voters::VOTERS;
