//! Which starts of a node its data knows of. The group knows the newest one by its nonce; data that does not know that one is a copy from
//! before it, and has forgotten what the node promised since.
//!
//! A nonce is a count of starts and a number drawn at random: the first tells a start that is later than all this data knows of from one
//! that is long past, which the log is full of; the second tells two copies of the same data apart.

use std::io;

use lockstead_cluster::Command;
use openraft::EntryPayload;

use crate::{
    codec::{decode_command, decode_state},
    store::{Disk, Kept, Write, pack},
};

/// Starts in a row that came to nothing, of which each may still come to be agreed on.
const KEPT: usize = 1_024;

/// The nonces of starts that may be the newest that the group knows of, in their order; the last is this one's.
pub(crate) struct Starts(Vec<u64>);

/// What it means that the group knows of a start.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Known {
    /// It may be the newest: the next start follows it.
    Newest,
    /// It is long past: this node has not heard yet what was agreed on since.
    Past,
    /// It is later than what this data knows of.
    Unknown,
}

impl Starts {
    pub(crate) fn begin(kept: Vec<u64>, random: u32) -> Starts {
        let mut starts = kept;
        let count = starts.last().map_or(0, |last| last >> 32) + 1;
        // The first is the one that the group knew of last, and stays.
        if starts.len() >= KEPT {
            starts.remove(1);
        }
        starts.push(count << 32 | u64::from(random));
        Starts(starts)
    }

    /// Of this start.
    pub(crate) fn nonce(&self) -> u64 {
        self.0.last().copied().unwrap_or(0)
    }

    /// What the group's newest start, as this node has heard of it, is to this data. 0 is none: whoever has no start yet, or whom
    /// an operator has let in again.
    pub(crate) fn know(&self, nonce: u64) -> Known {
        let first = self.0.first().map_or(0, |first| first >> 32);
        match nonce {
            0 => Known::Newest,
            _ if self.0.contains(&nonce) => Known::Newest,
            _ if nonce >> 32 < first => Known::Past,
            _ => Known::Unknown,
        }
    }

    /// This start is agreed on: none of before will be.
    pub(crate) fn settle(&mut self) {
        self.0.drain(..self.0.len().saturating_sub(1));
    }

    pub(crate) async fn write(&self, disk: &Disk) -> io::Result<()> {
        disk.write(Write::Starts(pack(&self.0)?)).await
    }
}

/// The group that data is of, before anything of its log is applied. The first to form a cluster was alone in the group, so its command
/// was agreed on as soon as it was in any log.
pub(crate) fn kept_group(kept: &Kept) -> io::Result<Option<u64>> {
    if let Some((_, bytes)) = &kept.snapshot {
        let state = decode_state(bytes)?;
        return Ok(state.is_formed().then_some(state.seed));
    }
    for entry in &kept.entries {
        if let EntryPayload::Normal(bytes) = &entry.payload
            && let Command::Form { seed, .. } = decode_command(&bytes.0)?
        {
            return Ok(Some(seed));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_that_came_to_nothing_are_known_until_one_is_agreed_on() {
        let mut starts = Starts::begin(Vec::new(), 7);
        let first = starts.nonce();
        assert_eq!((starts.know(0), starts.know(first)), (Known::Newest, Known::Newest));
        for random in 0..10 {
            starts = Starts::begin(starts.0, random);
        }
        let copy = Starts(starts.0.clone());
        assert_eq!(starts.know(first), Known::Newest);
        starts.settle();
        assert_eq!((starts.know(starts.nonce()), starts.know(first)), (Known::Newest, Known::Past));
        // However often a copy from before is started.
        let next = Starts::begin(starts.0, 1).nonce();
        let mut copy = Starts::begin(copy.0, 2);
        for random in 3..9 {
            assert_eq!(copy.know(next), Known::Unknown);
            copy = Starts::begin(copy.0, random);
        }
    }
}
