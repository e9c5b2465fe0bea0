//! Frames: a length of four bytes, little-endian, and so many bytes of postcard.

use std::io;

use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::store::{pack, unpack};

/// The first bytes of a connection of the membership group, by which a server tells it from others on the same port.
pub const RAFT_MAGIC: [u8; 8] = *b"LKSraft1";

/// Bytes of a frame at most. Appends are bounded by their number of commands, snapshots are cut.
const FRAME_BYTES: u32 = 64 << 20;

pub(crate) async fn write<T: Serialize>(out: &mut (impl AsyncWrite + Unpin), value: &T) -> io::Result<()> {
    let body = pack(value)?;
    let length = u32::try_from(body.len()).ok().filter(|length| *length <= FRAME_BYTES);
    let length = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a frame is too long"))?;
    let mut bytes = Vec::with_capacity(body.len() + 4);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&body);
    out.write_all(&bytes).await?;
    out.flush().await
}

/// Memory grows with the bytes that arrive, not with the length that was announced.
pub(crate) async fn read<T: DeserializeOwned>(from: &mut (impl AsyncRead + Unpin)) -> io::Result<T> {
    let length = from.read_u32_le().await?;
    if length > FRAME_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too long"));
    }
    let mut body = Vec::new();
    let read = from.take(u64::from(length)).read_to_end(&mut body).await?;
    if read < length as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    unpack(&body)
}
