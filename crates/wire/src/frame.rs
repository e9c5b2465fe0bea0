//! Frames: a header of 8 bytes, then one message or more.
//!
//! ```text
//! 0  magic    BD 4C
//! 2  version  01        of the frame format; messages are negotiated by Hello and Welcome
//! 3  flags    00        all reserved
//! 4  length   u32       bytes of the body
//! 8  body     messages
//! ```
//!
//! There is no checksum: TCP and Unix sockets have theirs, and TLS comes over them. The first byte is no letter and no TLS
//! record type, so one byte tells another protocol from ours ([WIRE-1]).

use alloc::vec::Vec;

use lockstead_types::{
    LimitName, Refusal,
    message::{ClientMessage, ServerMessage},
    peer::{Envelope, PeerMessage},
    reply::Reply,
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian::U32};

use crate::{
    client::encode_client,
    error::{DecodeError, EncodeError, Foreign},
    peer::encode_peer,
    server::encode_server,
    shorten::shorten,
};

/// Bytes before the body of a frame.
pub const HEADER_BYTES: usize = size_of::<Header>();
/// The longest frame a client reads before it knows `Welcome::frame_bytes`, which then takes its place ([WIRE-3]).
pub const FIRST_FRAME_BYTES: u32 = 1_048_576;

const MAGIC: [u8; 2] = [0xBD, b'L'];
const FRAME_VERSION: u8 = 1;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 2],
    version: u8,
    flags: u8,
    length: U32,
}

/// The first frame of `buf`, if it is whole: its body and how many bytes of `buf` it takes. `Ok(None)` where more must be
/// read; [`frame_bytes_needed`] says how much. `max` bounds the whole frame, header included.
///
/// # Errors
/// [`DecodeError`] as soon as the bytes that are there show it, before the rest has come.
pub fn split_frame(buf: &[u8], max: u32) -> Result<Option<(&[u8], usize)>, DecodeError> {
    let total = frame_bytes_needed(buf, max)?;
    Ok(buf.get(HEADER_BYTES..total).map(|body| (body, total)))
}

/// How long a buffer that starts with `buf` must be to say more: the whole first frame's length once its header is there,
/// before that the header's.
///
/// # Errors
/// As [`split_frame`].
pub fn frame_bytes_needed(buf: &[u8], max: u32) -> Result<usize, DecodeError> {
    let Ok((header, _)) = Header::ref_from_prefix(buf) else {
        // [WIRE-1] A peer that speaks something else may never send 8 bytes: judge the ones that came.
        check_start(buf)?;
        return Ok(HEADER_BYTES);
    };
    if header.magic != MAGIC || header.version != FRAME_VERSION || header.flags != 0 {
        check_start(buf)?;
    }
    let body = header.length.get();
    if body == 0 {
        return Err(DecodeError::EmptyFrame);
    }
    // [WIRE-3] Bounded before a byte of it is waited for.
    let length = u64::from(body) + HEADER_BYTES as u64;
    match usize::try_from(length) {
        Ok(total) if length <= u64::from(max) => Ok(total),
        _ => Err(DecodeError::FrameTooLong { length, max }),
    }
}

fn check_start(buf: &[u8]) -> Result<(), DecodeError> {
    if buf.iter().zip(&MAGIC).any(|(a, b)| a != b) {
        return Err(DecodeError::Foreign(Foreign::of(buf)));
    }
    match (buf.get(2), buf.get(3)) {
        (Some(&found), _) if found != FRAME_VERSION => Err(DecodeError::FrameVersion { found }),
        (_, Some(&found)) if found != 0 => Err(DecodeError::HeaderFlags { found }),
        _ => Ok(()),
    }
}

/// Where an open frame starts in its buffer. Nothing may be removed from the buffer before it while it is open.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[must_use = "a frame that is not closed has no length"]
pub struct FrameMark(usize);

/// Appends the header of a frame, to be closed by [`close_frame`] after its messages were appended.
pub fn open_frame(out: &mut Vec<u8>) -> FrameMark {
    let mark = FrameMark(out.len());
    let header = Header { magic: MAGIC, version: FRAME_VERSION, flags: 0, length: U32::new(0) };
    out.extend_from_slice(header.as_bytes());
    mark
}

/// Puts the length into the header of an open frame. A frame to which nothing was appended is taken away again. Whether it
/// became too long is the caller's to see; [`FrameWriter`] does.
pub fn close_frame(out: &mut Vec<u8>, mark: FrameMark) {
    let body = out.len().saturating_sub(mark.0 + HEADER_BYTES);
    if body == 0 {
        out.truncate(mark.0);
    } else if let Some(field) = out.get_mut(mark.0 + 4..mark.0 + HEADER_BYTES) {
        field.copy_from_slice(&u32::try_from(body).unwrap_or(u32::MAX).to_le_bytes());
    }
}

/// Appends messages to a buffer, as many in a frame as fit. After every call the buffer holds whole frames, so it may be
/// written at any time; [`FrameWriter::finish`] must be called before bytes are removed from its front or anything else is
/// appended.
#[derive(Debug)]
pub struct FrameWriter {
    max: u32,
    open: Option<FrameMark>,
}

impl FrameWriter {
    /// A writer of frames of at most `max` bytes, header included.
    #[must_use]
    pub const fn new(max: u32) -> FrameWriter {
        FrameWriter { max, open: None }
    }

    /// Appends a client's message.
    ///
    /// # Errors
    /// [`EncodeError`], and the buffer is as before. A client refuses the request itself then.
    pub fn client(&mut self, out: &mut Vec<u8>, message: &ClientMessage<'_>) -> Result<(), EncodeError> {
        self.append(out, |out| encode_client(message, out))
    }

    /// Appends a node's message.
    ///
    /// # Errors
    /// [`EncodeError`], and the buffer is as before. [`FrameWriter::server_fitting`] knows what to send instead.
    pub fn server(&mut self, out: &mut Vec<u8>, message: &ServerMessage) -> Result<(), EncodeError> {
        self.append(out, |out| encode_server(message, out))
    }

    /// Appends a node's message; a report that is too long for a frame loses rows where it can say what it leaves out
    /// ([WIRE-8]), otherwise it is answered `limit:frame-bytes` ([WIRE-7]).
    ///
    /// # Errors
    /// [`EncodeError`] for other messages that do not fit; no refusal may stand for those, since the lock manager has
    /// already done what they say. The connection must be closed.
    pub fn server_fitting(&mut self, out: &mut Vec<u8>, message: &ServerMessage) -> Result<(), EncodeError> {
        let mut shorter = match self.server(out, message) {
            Ok(()) => return Ok(()),
            Err(error) => shorten(message).ok_or(error)?,
        };
        loop {
            match self.server(out, &shorter) {
                Ok(()) => return Ok(()),
                Err(error) => shorter = shorten(&shorter).ok_or(error)?,
            }
        }
    }

    /// Appends a node's message to another node. An answer to a question that is too long for a frame becomes the refusal
    /// `limit:frame-bytes` of that question ([WIRE-7]).
    ///
    /// # Errors
    /// [`EncodeError`] for other messages that do not fit; the link must be given up.
    pub fn peer(&mut self, out: &mut Vec<u8>, envelope: &Envelope) -> Result<(), EncodeError> {
        let error = match self.append(out, |out| encode_peer(envelope, out)) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let PeerMessage::Answer { ask, .. } = envelope.message else { return Err(error) };
        let reply = Reply::Refused(Refusal::Limit(LimitName::FrameBytes));
        let refused = Envelope { message: PeerMessage::Obeyed { ask, reply }, ..*envelope };
        self.append(out, |out| encode_peer(&refused, out))
    }

    /// Ends the frame; the next message starts another.
    pub fn finish(&mut self) {
        self.open = None;
    }

    fn append(
        &mut self,
        out: &mut Vec<u8>,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let before = out.len();
        let max = usize::try_from(self.max).unwrap_or(usize::MAX);
        let mark = self.open.unwrap_or_else(|| open_frame(out));
        let start = out.len();
        if let Err(error) = encode(out) {
            out.truncate(before);
            return Err(error);
        }
        // [WIRE-2] The length is right after every message, so that no reader ever meets an open frame.
        if out.len() - mark.0 <= max {
            self.open = Some(mark);
            close_frame(out, mark);
            return Ok(());
        }
        let length = HEADER_BYTES + out.len() - start;
        if length > max {
            out.truncate(before);
            return Err(EncodeError::FrameTooLong { length, max: self.max });
        }
        // The message fits a frame, only not this one: it gets its own header in front.
        let bytes = out.split_off(start);
        let mark = open_frame(out);
        out.extend_from_slice(&bytes);
        self.open = Some(mark);
        close_frame(out, mark);
        Ok(())
    }
}
