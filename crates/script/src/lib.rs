//! The language of `lockstead shell` and of the scenario files.
//!
//! A script is lines `SESSION: VERB ARGS`; what its sessions see are events, one a line. Nothing here reads a file or
//! opens a socket: [`parse`] turns text into a [`Command`], a [`Player`] turns commands of one session into operations
//! on the service and the service's answers into [`Event`]s, and whoever owns a transport carries both.
//!
//! ```text
//! a: lock orders PR                      a: orders granted PR token=1099511627777
//! b: lock orders EX                      b: orders waiting EX
//!                                        a: orders blocking EX
//! ```
//!
//! Reading order: [`command`], [`parse`], [`event`], [`player`], [`show`], [`mask`].
#![forbid(unsafe_code)]

pub mod command;
pub mod event;
pub mod mask;
pub mod parse;
pub mod player;
pub mod show;

mod duration;
mod words;

pub use command::{Command, Verb};
pub use duration::parse_duration;
pub use event::{Event, LockEvent};
pub use mask::TokenMask;
pub use parse::{ParseError, ScriptError, parse_line, parse_script};
pub use player::{Player, Step};
pub use show::People;
pub use words::HELP;
