//! The client as a state machine.
#![no_std]
#![forbid(unsafe_code)]

/// How sure the client may be of its lease.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Lease {
    /// Renewed lately.
    Held,
    /// Not renewed lately, the deadline not reached.
    Unsure,
    /// The deadline has passed, or the node said so.
    Lost,
}
