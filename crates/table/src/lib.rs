//! THE lock manager of one node: resources with their three queues, grants, conversions, value blocks, deadlocks.
//!
//! # Promise
//!
//! Each resource has one order of grants, conversions and releases, and at no point in it are two incompatible claims
//! granted together. A call is applied whole or refused whole; what it caused for others comes back as data. After every
//! call nothing is left waiting that the rules would grant. No call panics, whatever it is given.
//!
//! # Picture
//!
//! ```text
//!                        Table::lock                 Table::convert            Table::release, cancel, end_owner, expire
//!                             |                            |                                   |
//!   space, name -> resource   v                            v                                   v
//!   +--------------------------------------------------------------------------------------------------------+
//!   |  GRANTED     [CR] [PR] [PR]          <- held, and compatible with each other                           |
//!   |  CONVERTING  [PR->EX] [NL->CW]       <- still hold the old mode; served first, from the head           |
//!   |  WAITING     [PW] [CR]               <- served when nothing converts, from the head                    |
//!   |  value block, permits                                                                                  |
//!   +--------------------------------------------------------------------------------------------------------+
//!                             |                            |
//!                        Outcome or Refusal          Vec<Effect>: grants, refusals, blocking notices for others
//! ```
//!
//! # Roles
//!
//! - An **owner** is whoever the node says: a session or a group. It is a number here, with a list of its locks.
//! - A **lock** is one owner's place at a resource: granted, converting or waiting.
//! - An **origin** is a number the caller gives with a request, and gets back with whatever ends its wait.
//!
//! # The path of a request
//!
//! `request` checks what was asked (`[FLAG-n]`, `[LIMIT-n]`), finds or makes the resource and asks `grant` whether the
//! claim may be granted now: that question is answered there and nowhere else. If so, the lock joins GRANTED with a
//! new token. If not, it is refused or joins a queue; `block` tells the holders in the way, and `deadlock` looks for a
//! cycle of waits, which it derives from the queues; `prevent` says by the ages of transactions who may wait for whom. Whatever frees something (`release`, a conversion, a cancel, an
//! ended owner, a deadline) ends in `promote`, which serves CONVERTING from its head, then WAITING.
//!
//! # Parts
//!
//! In a lockspace with extents a lock may be of a part of its resource: a range of keys, or a predicate. The queues stay what they are,
//! but who has to do with whom is asked of an index of extents (`interval`) by `extents`, wherever else a whole queue would be asked.
//!
//! # Slots
//!
//! Every resource belongs to a slot, the unit of mastership. `slots` freezes and thaws them and gives them up, `export` says
//! what is in them, `restore` takes over what another master had, `reclaim` what clients claim, `merge` what the
//! other members of a group say of the same lock.
//!
//! # Time, memory, cancellation
//!
//! Time is an argument; deadlines are reported by [`Table::next_deadline`] and served by [`Table::expire`]. A lock and
//! release of a name of up to 20 bytes allocates nothing once the slabs have grown. Whatever is rare about a lock (a
//! wait, a tag, permits) or a resource (a value block, a queue, many holders) lives in a side record. A cancelled wait
//! leaves no trace in a queue.
//!
//! # Reading order
//!
//! `docs/semantics.md` for the rules; then `effect`, `lock`, `resource`, `grant`, `request`, `convert`, `release`,
//! `promote`, `block`, `deadlock`, `prevent`; the rest as needed.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod effect;
mod lock;
mod resource;
mod slab;
mod store;
mod table;

mod grant;
mod promote;

mod convert;
mod release;
mod request;
mod waits;

mod block;
mod deadlock;
mod extents;
mod fair;
mod interval;
mod nest;
mod orphan;
mod owner;
mod prevent;
mod since;
mod value;

mod again;
mod export;
mod merge;
mod reclaim;
mod restore;
mod slots;

mod chase;
mod check;
mod look;

pub use chase::Chase;
pub use effect::{Claimant, Counts, Effect, Ending, Found, Outcome, OwnerId, Space};
pub use export::{ExportedLock, ExportedResource, ExportedWait};
pub use look::Seen;
pub use table::Table;
