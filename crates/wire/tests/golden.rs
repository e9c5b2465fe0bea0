//! The bytes of every message are kept in `testdata/golden.txt`: a change of the format shows there, or not at all.

mod support;

use core::fmt::Write as _;

use lockstead_types::{
    message::{ClientMessage, ServerMessage},
    peer::Envelope,
};
use lockstead_wire::{FrameWriter, encode_client, encode_peer, encode_server};
use support::{decode_client, decode_peer, decode_server, expect_file, kinds, peer, samples, unhex};

#[test]
fn the_bytes_of_every_message_are_as_kept() {
    let mut text = String::from(
        "# The bytes of one message or more of every kind, and of two frames. A diff here is a change of the protocol:\n\
         # docs/protocol.md and PROTOCOL_VERSION change with it. Written by UPDATE_EXPECT=1 cargo test -p lockstead-wire.\n",
    );
    for (name, message) in samples::client() {
        assert!(name.starts_with(kinds::client_kind(&message)), "{name}");
        write_entry(&mut text, "client", name, &client_bytes(&message));
    }
    for (name, message) in samples::server() {
        assert!(name.starts_with(kinds::server_name(&message)), "{name}");
        write_entry(&mut text, "server", name, &server_bytes(&message));
    }
    for (name, envelope) in peer::samples() {
        assert!(name.starts_with(peer::peer_kind(&envelope.message)), "{name}");
        write_entry(&mut text, "peer", name, &peer_bytes(&envelope));
    }
    let (client, server) = frames();
    write_entry(&mut text, "frame", "of a client: hello, lock, release", &client);
    write_entry(&mut text, "frame", "of a node: welcome, granted, released", &server);
    expect_file("golden.txt", &text);
}

#[test]
fn the_kept_bytes_are_read_as_what_they_were_written_from() {
    let text = include_str!("../testdata/golden.txt");
    let kept = |side: &str, name: &str| -> Vec<u8> {
        let lines = text.lines().skip_while(|l| *l != format!("{side} {name}")).skip(1);
        let rows = lines.take_while(|l| l.starts_with(' '));
        rows.flat_map(|l| unhex(l.split('|').next().unwrap_or_default())).collect()
    };
    for (name, message) in samples::client() {
        assert_eq!(decode_client(&kept("client", name)), Ok(vec![message]), "{name}");
    }
    for (name, message) in samples::server() {
        assert_eq!(decode_server(&kept("server", name)), Ok(vec![message]), "{name}");
    }
    for (name, envelope) in peer::samples() {
        assert_eq!(decode_peer(&kept("peer", name)), Ok(vec![envelope]), "{name}");
    }
}

#[test]
fn no_kind_of_message_is_without_a_sample() {
    let client: Vec<_> = samples::client().iter().map(|(_, m)| kinds::client_kind(m)).collect();
    let server: Vec<_> = samples::server().iter().map(|(_, m)| kinds::server_name(m)).collect();
    for kind in kinds::CLIENT_KINDS {
        assert!(client.contains(kind), "no sample of {kind}");
    }
    for kind in kinds::server_names() {
        assert!(server.contains(&kind), "no sample of {kind}");
    }
    let peer: Vec<_> = peer::samples().iter().map(|(_, e)| peer::peer_kind(&e.message)).collect();
    for kind in peer::PEER_KINDS {
        assert!(peer.contains(kind), "no sample of {kind}");
    }
}

/// The sizes that throughput hangs on.
#[test]
fn hot_messages_are_small() {
    let client = |name: &str| samples::client().iter().find(|s| s.0 == name).map(|s| client_bytes(&s.1).len());
    let server = |name: &str| samples::server().iter().find(|s| s.0 == name).map(|s| server_bytes(&s.1).len());
    assert_eq!(client("lock"), Some(26 + "orders/7".len()));
    assert_eq!(client("convert"), Some(23));
    assert_eq!(client("release"), Some(18));
    assert_eq!(client("ack"), Some(9));
    assert_eq!(client("renew"), Some(9));
    assert_eq!(server("granted"), Some(27));
    assert_eq!(server("queued"), Some(25));
    assert_eq!(server("granted with a seal"), Some(43));
    assert_eq!(server("released"), Some(9));
    assert_eq!(server("refused"), Some(10));
}

fn frames() -> (Vec<u8>, Vec<u8>) {
    let (mut client, mut server) = (Vec::new(), Vec::new());
    let mut writer = FrameWriter::new(4_096);
    for (name, message) in samples::client() {
        if ["hello", "lock", "release"].contains(&name) {
            writer.client(&mut client, &message).expect("fits");
        }
    }
    writer.finish();
    for (name, message) in samples::server() {
        if ["welcome", "granted", "released"].contains(&name) {
            writer.server(&mut server, &message).expect("fits");
        }
    }
    (client, server)
}

fn client_bytes(message: &ClientMessage<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_client(message, &mut bytes).expect("a sample can be written");
    bytes
}

fn server_bytes(message: &ServerMessage) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_server(message, &mut bytes).expect("a sample can be written");
    bytes
}

fn peer_bytes(envelope: &Envelope) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_peer(envelope, &mut bytes).expect("a sample can be written");
    bytes
}

fn write_entry(text: &mut String, side: &str, name: &str, bytes: &[u8]) {
    writeln!(text, "\n{side} {name}").expect("a string takes all");
    for row in bytes.chunks(16) {
        let digits: Vec<String> = row.iter().map(|b| format!("{b:02x}")).collect();
        let letters: String = row.iter().map(|b| if b.is_ascii_graphic() { char::from(*b) } else { '.' }).collect();
        writeln!(text, "    {:<47} |{letters}|", digits.join(" ")).expect("a string takes all");
    }
}
