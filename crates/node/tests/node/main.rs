//! The node by its surface: one input, the outputs, the proof of the whole state.

mod model;
mod rig;

mod garbage;
mod groups;
mod handshake;
mod many;
mod operators;
mod random;
mod restart;
