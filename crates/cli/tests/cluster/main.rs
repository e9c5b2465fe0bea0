//! A cluster of real processes under faults: nodes that are killed, stopped and cut off while clients add to guarded counters.
//! Whatever happens, no step is lost or done twice, no two clients are ever inside at once, and tokens rise.
//!
//! One program for all, since they share their nodes' and clients' code; each file is a kind of fault. The numbers of the faults
//! (F04) are those of the list by which the whole project is tested.

#[path = "../common/mod.rs"]
mod common;

mod backups;
mod bare;
mod churn;
mod clients;
mod clocks;
mod crowds;
mod disks;
mod hostages;
mod kills;
mod last;
mod late;
mod net;
mod nodes;
mod partitions;
mod rebuilds;
mod stops;
mod wires;
mod work;
