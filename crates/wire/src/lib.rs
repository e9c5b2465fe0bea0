//! The native protocol: frames and messages to bytes and back. `docs/protocol.md` is the layout in words.
//!
//! A stream is a row of frames; a frame is a fixed header and at least one message, as many as fit. [`split_frame`] finds a
//! frame in a growing buffer, [`client_messages`], [`server_messages`] and, between nodes, [`peer_messages`] walk through its
//! body, [`FrameWriter`] makes frames. Names and values of a client's requests are borrowed from the buffer.
//!
//! Pure: no clock, no I/O, no async. Nothing a peer sends makes it panic, and nothing is allocated before the bytes that
//! must fill it have been seen ([WIRE-4]).
//!
//! Reading order: [`frame`], [`client`], [`server`], [`peer`]; then `hot` (the fixed records), `cold` (everything else),
//! `field` (what both are made of), `rows` (locks of a report); `shorten` for answers that fit no frame.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod client;
pub mod error;
pub mod frame;
pub mod limits;
pub mod peer;
pub mod server;

mod cold;
mod field;
mod hot;
mod rows;
mod shorten;

pub use client::{ClientMessages, client_messages, encode_client};
pub use error::{DecodeError, EncodeError, Foreign};
pub use frame::{
    FIRST_FRAME_BYTES, FrameMark, FrameWriter, HEADER_BYTES, close_frame, frame_bytes_needed, open_frame, split_frame,
};
pub use limits::DecodeLimits;
pub use peer::{LINK_FRAME_BYTES, LINK_MAGIC, PeerMessages, encode_peer, peer_messages};
pub use server::{ServerMessages, encode_server, server_messages};
