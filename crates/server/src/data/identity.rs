//! The identity file: whose directory this is, and the epoch of its newest start.
//!
//! ```text
//! lockstead data directory 1
//! node 1
//! epoch 7
//! check 1c2d3e4f
//! ```
//! `check` is the CRC-32C of the lines before: a flipped bit in the epoch would let tokens repeat.

use std::{
    fs,
    io::{ErrorKind, Write},
    path::Path,
};

use super::{DataError, crc::crc32c, files};

/// What the file says.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    pub(crate) node: u16,
    pub(crate) epoch: u32,
}

/// Reads the file, `None` where there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Identity>, DataError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(DataError::io("read", path)(error)),
    };
    let damaged = || DataError::Damaged {
        path: path.to_owned(),
        problem:
            "is damaged: restore the data directory as a whole, with epoch_min above every epoch that was ever in use"
                .into(),
    };
    parse(&text).map(Some).ok_or_else(damaged)
}

/// Puts a new identity into place, durably.
pub(crate) fn write(directory: &Path, identity: Identity) -> Result<(), DataError> {
    let beside = directory.join("identity.new");
    let mut file = files::create_file(&beside)?;
    file.write_all(print(identity).as_bytes()).map_err(DataError::io("write", &beside))?;
    file.sync_all().map_err(DataError::io("make durable", &beside))?;
    files::rename_durably(directory, &beside, &directory.join("identity"))
}

fn print(Identity { node, epoch }: Identity) -> String {
    let text = format!("lockstead data directory 1\nnode {node}\nepoch {epoch}\n");
    let check = crc32c(text.as_bytes());
    format!("{text}check {check:08x}\n")
}

fn parse(text: &str) -> Option<Identity> {
    let (before, check) = text.strip_suffix('\n')?.rsplit_once("check ")?;
    let mut lines = before.lines();
    let sound = crc32c(before.as_bytes()) == u32::from_str_radix(check, 16).ok()?;
    if !sound || lines.next()? != "lockstead data directory 1" {
        return None;
    }
    let node = lines.next()?.strip_prefix("node ")?.parse().ok()?;
    let epoch = lines.next()?.strip_prefix("epoch ")?.parse().ok()?;
    Some(Identity { node, epoch })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_seen() {
        let whole = Identity { node: 3, epoch: 70_001 };
        let text = print(whole);
        assert_eq!(parse(&text), Some(whole));
        for i in 0..text.len() * 8 {
            let mut bytes = text.clone().into_bytes();
            bytes[i / 8] ^= 1 << (i % 8);
            let read = String::from_utf8(bytes).ok().and_then(|t| parse(&t));
            // The case of a hexadecimal digit carries nothing.
            assert!(read.is_none() || read == Some(whole), "bit {i}");
        }
        for end in 0..text.len() {
            assert_eq!(parse(&text[..end]), None, "cut at {end}");
        }
    }
}
