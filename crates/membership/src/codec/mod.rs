//! Commands and the agreed state to bytes and back: what stands in the log and in snapshots, and crosses between nodes in proposals.
//!
//! By hand, so that core types know nothing of it and a change of a format is seen here: the first byte is the version, numbers are
//! little-endian and of fixed length, counts come before what they count and are never believed beyond the bytes that are there.

mod cluster;
mod field;

use std::io;

use lockstead_cluster::{Command, State};

use field::{Code, Reader};

/// The newest version that is read, and the one that is written.
const VERSION: u8 = 1;

/// A command as bytes.
pub(crate) fn encode_command(command: &Command) -> Vec<u8> {
    encode(command)
}

/// A command from bytes.
pub(crate) fn decode_command(bytes: &[u8]) -> io::Result<Command> {
    decode(bytes)
}

/// The state as bytes.
pub(crate) fn encode_state(state: &State) -> Vec<u8> {
    encode(state)
}

/// The state from bytes.
pub(crate) fn decode_state(bytes: &[u8]) -> io::Result<State> {
    decode(bytes)
}

fn encode<T: Code>(value: &T) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    value.put(&mut bytes);
    bytes
}

fn decode<T: Code>(bytes: &[u8]) -> io::Result<T> {
    let mut reader = Reader::new(bytes);
    let version = u8::take(&mut reader)?;
    if version != VERSION {
        return Err(bad(&format!("written by a newer version ({version}): update this node")));
    }
    let value = T::take(&mut reader)?;
    if reader.is_at_end() { Ok(value) } else { Err(bad("bytes are left over")) }
}

fn bad(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}
