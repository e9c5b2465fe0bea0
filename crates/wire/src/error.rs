//! What is wrong with bytes that were read, and why a message cannot be written.

use core::fmt;

use lockstead_types::message::Rejection;

/// Bytes that are no frame or message of this protocol: what, and at which byte of the frame's body (`at`).
///
/// The stream cannot be read on after any of them. A node answers with [`DecodeError::rejection`], or with
/// [`Foreign::answer`] where the peer speaks another protocol, and closes the connection.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// The stream does not start with the magic bytes: another protocol.
    Foreign(Foreign),
    /// A version of the frame format that this code does not know.
    FrameVersion {
        /// The version found.
        found: u8,
    },
    /// Header flags that must be zero are not.
    HeaderFlags {
        /// The flags found.
        found: u8,
    },
    /// The header announces more than the limit.
    FrameTooLong {
        /// Bytes announced, header included.
        length: u64,
        /// The limit.
        max: u32,
    },
    /// A frame without a message.
    EmptyFrame,
    /// A message ends before it is whole.
    Truncated {
        /// Where bytes are missing.
        at: usize,
    },
    /// No message has this number, or the other side sends it.
    Opcode {
        /// Where.
        at: usize,
        /// The number found.
        found: u8,
    },
    /// A number that stands for nothing: an unknown kind, a bit that has no meaning, a value out of its range.
    Number {
        /// Where.
        at: usize,
        /// What it should have been.
        field: &'static str,
    },
    /// A text that is not UTF-8.
    Text {
        /// Where.
        at: usize,
    },
    /// A list or text longer than its bound, or longer than the bytes left could fill.
    TooLong {
        /// Where.
        at: usize,
        /// What it is.
        field: &'static str,
        /// The length announced.
        length: usize,
        /// The bound.
        max: usize,
    },
}

impl DecodeError {
    /// What to tell the peer.
    #[must_use]
    pub const fn rejection(self) -> Rejection {
        match self {
            DecodeError::FrameVersion { .. } => Rejection::Version,
            DecodeError::FrameTooLong { .. } => Rejection::FrameTooLong,
            DecodeError::Foreign(_)
            | DecodeError::HeaderFlags { .. }
            | DecodeError::EmptyFrame
            | DecodeError::Truncated { .. }
            | DecodeError::Opcode { .. }
            | DecodeError::Number { .. }
            | DecodeError::Text { .. }
            | DecodeError::TooLong { .. } => Rejection::Protocol,
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Foreign(foreign) => write!(f, "not the lockstead protocol: {}", foreign.text()),
            DecodeError::FrameVersion { found } => write!(f, "frame version {found} is not known"),
            DecodeError::HeaderFlags { found } => write!(f, "header flags {found:#04x} must be zero"),
            DecodeError::FrameTooLong { length, max } => {
                write!(f, "a frame of {length} bytes is over the limit of {max}")
            }
            DecodeError::EmptyFrame => f.write_str("a frame without a message"),
            DecodeError::Truncated { at } => write!(f, "a message is cut off at byte {at}"),
            DecodeError::Opcode { at, found } => {
                write!(f, "no message {found:#04x} is known from this side (byte {at})")
            }
            DecodeError::Number { at, field } => write!(f, "a number at byte {at} is no {field}"),
            DecodeError::Text { at } => write!(f, "the text at byte {at} is not UTF-8"),
            DecodeError::TooLong { at, field, length, max } => {
                write!(f, "{field} at byte {at}: length {length} is over {max}")
            }
        }
    }
}

impl core::error::Error for DecodeError {}

/// What a stream without our magic bytes looks like.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Foreign {
    /// The first letters of an HTTP request.
    Http,
    /// A TLS handshake record.
    Tls,
    /// Anything else.
    Unknown,
}

impl Foreign {
    /// Guesses from the first bytes; one is enough to see that it is not ours.
    #[must_use]
    pub fn of(start: &[u8]) -> Foreign {
        const METHODS: [&[u8]; 8] =
            [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"PRI * HTTP/2"];
        let method = |m: &&[u8]| !start.is_empty() && start.iter().zip(*m).all(|(a, b)| a == b);
        match start.first() {
            Some(0x16) if start.get(1).is_none_or(|b| *b == 3) => Foreign::Tls,
            Some(_) if METHODS.iter().any(method) => Foreign::Http,
            _ => Foreign::Unknown,
        }
    }

    /// Whole bytes to answer such a peer with before closing, in its own protocol; `None` where only closing helps.
    #[must_use]
    pub const fn answer(self) -> Option<&'static [u8]> {
        match self {
            Foreign::Http => Some(
                b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 77\r\nConnection: close\r\n\r\n\
                  This port speaks the lockstead client protocol. HTTP is on the admin port.  \n",
            ),
            // A fatal alert, protocol_version: the text a TLS library prints for it is as near as TLS comes to saying it.
            Foreign::Tls => Some(&[0x15, 3, 1, 0, 2, 2, 70]),
            Foreign::Unknown => None,
        }
    }

    /// In words, for people.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Foreign::Http => "an HTTP request",
            Foreign::Tls => "a TLS handshake",
            Foreign::Unknown => "unknown bytes",
        }
    }
}

/// A message that cannot be written, because its reader would refuse it. The buffer is as it was before.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum EncodeError {
    /// Longer alone than a frame may be.
    FrameTooLong {
        /// Bytes, header included.
        length: usize,
        /// The limit.
        max: u32,
    },
    /// A name, text or list longer than the protocol can say.
    TooLong {
        /// What it is.
        field: &'static str,
        /// Its length.
        length: usize,
        /// The bound.
        max: usize,
    },
    /// A value that stands for nothing: a flag bit without a name, a mode above 31.
    Number {
        /// What it should have been.
        field: &'static str,
    },
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EncodeError::FrameTooLong { length, max } => {
                write!(f, "a frame of {length} bytes is over the limit of {max}")
            }
            EncodeError::TooLong { field, length, max } => write!(f, "{field}: length {length} is over {max}"),
            EncodeError::Number { field } => write!(f, "a value is no {field}"),
        }
    }
}

impl core::error::Error for EncodeError {}
