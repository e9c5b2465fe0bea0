//! What a node of the group keeps: the log, its vote, a snapshot, on redb; and the agreed state in memory.

mod disk;
mod log;
mod machine;
#[cfg(test)]
mod suite;

pub(crate) use disk::{Disk, Kept, Write, pack, rewrite, unpack};
pub(crate) use log::LogStore;
pub(crate) use machine::{Applied, Machine, SnapshotData};
