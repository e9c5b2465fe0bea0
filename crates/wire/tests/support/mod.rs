//! What the tests of the codec share: a sample of every message, random messages, the fuzz targets.
#![allow(dead_code, reason = "each test file uses a part")]

#[macro_use]
pub(crate) mod kinds;
pub(crate) mod peer;
pub(crate) mod random;
pub(crate) mod samples;
pub(crate) mod targets;

use lockstead_types::{
    message::{ClientMessage, ServerMessage},
    peer::Envelope,
};
use lockstead_wire::{DecodeError, DecodeLimits, client_messages, peer_messages, server_messages};

pub(crate) fn decode_client(body: &[u8]) -> Result<Vec<ClientMessage<'_>>, DecodeError> {
    client_messages(body, &DecodeLimits::CEILING).collect()
}

pub(crate) fn decode_server(body: &[u8]) -> Result<Vec<ServerMessage>, DecodeError> {
    server_messages(body, &DecodeLimits::CEILING).collect()
}

pub(crate) fn decode_peer(body: &[u8]) -> Result<Vec<Envelope>, DecodeError> {
    peer_messages(body).collect()
}

/// Bytes as hexadecimal digits; anything that is no digit separates.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
    assert!(digits.len().is_multiple_of(2), "an odd number of digits in {text}");
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Compares with a file of `testdata`, or writes it where `UPDATE_EXPECT` is set.
pub(crate) fn expect_file(name: &str, actual: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, actual).expect("testdata can be written");
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    for (number, (e, a)) in expected.lines().zip(actual.lines()).enumerate() {
        assert_eq!(
            e,
            a,
            "{name} line {}: the wire format changed; see docs/protocol.md, then UPDATE_EXPECT=1",
            number + 1
        );
    }
    assert_eq!(expected.lines().count(), actual.lines().count(), "{name}: lines are missing or new");
}
