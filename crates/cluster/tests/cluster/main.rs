//! The agreed state and its steward, from outside.

mod commands;
mod placing;
mod random;
mod spread;
mod steward;
mod support;
