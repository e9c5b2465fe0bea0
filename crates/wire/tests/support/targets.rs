//! What the fuzzer runs and the replay tests repeat. Each takes any bytes, must not panic, and holds what was accepted to
//! the rule that a message has one form only: writing it again gives the bytes it was read from.

use lockstead_wire::{
    DecodeError, DecodeLimits, Foreign, HEADER_BYTES, client_messages, encode_client, encode_peer, encode_server,
    frame_bytes_needed, peer_messages, server_messages, split_frame,
};

/// The longest frame in the targets.
pub(crate) const MAX: u32 = 1 << 16;

/// The body of a client's frame.
pub(crate) fn client_body(data: &[u8]) -> Result<usize, DecodeError> {
    let (mut again, mut count, mut end) = (Vec::new(), 0, Ok(()));
    for message in client_messages(data, &DecodeLimits::CEILING) {
        match message {
            Ok(message) => encode_client(&message, &mut again).expect("what was read can be written"),
            Err(error) => end = Err(error),
        }
        count += 1;
    }
    assert_accepted(data, &again, end.is_ok());
    end.map(|()| count)
}

/// The body of a node's frame.
pub(crate) fn server_body(data: &[u8]) -> Result<usize, DecodeError> {
    let (mut again, mut count, mut end) = (Vec::new(), 0, Ok(()));
    for message in server_messages(data, &DecodeLimits::CEILING) {
        match message {
            Ok(message) => encode_server(&message, &mut again).expect("what was read can be written"),
            Err(error) => end = Err(error),
        }
        count += 1;
    }
    assert_accepted(data, &again, end.is_ok());
    end.map(|()| count)
}

/// The body of a frame between nodes.
pub(crate) fn peer_body(data: &[u8]) -> Result<usize, DecodeError> {
    let (mut again, mut count, mut end) = (Vec::new(), 0, Ok(()));
    for message in peer_messages(data) {
        match message {
            Ok(envelope) => encode_peer(&envelope, &mut again).expect("what was read can be written"),
            Err(error) => end = Err(error),
        }
        count += 1;
    }
    assert_accepted(data, &again, end.is_ok());
    end.map(|()| count)
}

fn assert_accepted(data: &[u8], again: &[u8], whole: bool) {
    if whole {
        assert!(data == again, "a second form of the same messages was accepted");
    } else {
        assert!(data.starts_with(again), "a second form of the messages before the error was accepted");
    }
}

/// A stream that comes in pieces, whose first byte says how long a piece is: it must be cut into the same frames, or
/// refused for the same reason, as the stream that is there at once.
pub(crate) fn stream(data: &[u8]) -> Result<usize, DecodeError> {
    let Some((step, bytes)) = data.split_first() else { return Ok(0) };
    let at_once = cut(bytes, bytes.len().max(1));
    let in_pieces = cut(bytes, usize::from(*step) + 1);
    assert_eq!(at_once, in_pieces, "cutting depends on how the stream arrives");
    at_once.map(|frames| frames.len())
}

/// Frames of a stream that arrives `step` bytes at a time. Which protocol a foreign one may be is a guess that may change
/// with the bytes that are there, so it counts as one.
fn cut(bytes: &[u8], step: usize) -> Result<Vec<&[u8]>, DecodeError> {
    cut_exactly(bytes, step).map_err(|error| match error {
        DecodeError::Foreign(_) => DecodeError::Foreign(Foreign::Unknown),
        other => other,
    })
}

fn cut_exactly(bytes: &[u8], step: usize) -> Result<Vec<&[u8]>, DecodeError> {
    let (mut frames, mut start) = (Vec::new(), 0);
    for end in (0..=bytes.len()).step_by(step).chain([bytes.len()]) {
        while let Some((body, used)) = split_frame(&bytes[start..end], MAX)? {
            assert_eq!(used, body.len() + HEADER_BYTES);
            assert!(!body.is_empty() && used <= MAX as usize);
            frames.push(body);
            start += used;
        }
        let needed = frame_bytes_needed(&bytes[start..end], MAX)?;
        assert!(needed > end - start, "a frame that is whole was not given");
    }
    Ok(frames)
}
