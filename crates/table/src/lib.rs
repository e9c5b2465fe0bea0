//! THE lock manager of one node: resources with their three queues, grants, conversions, value blocks, deadlocks.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod api;
pub use api::*;
