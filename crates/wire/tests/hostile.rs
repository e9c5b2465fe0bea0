//! Bytes nobody should send: kept cases with what is said of each, every truncation, every flipped bit, and many random
//! mutations. Nothing may panic, and what is accepted has one form only (see [`support::targets`]).

mod support;

use core::fmt::Write as _;

use lockstead_types::{
    Limits,
    message::{ClientMessage, Rejection, ServerMessage},
    report::Meta,
};
use lockstead_wire::{
    DecodeError, DecodeLimits, Foreign, HEADER_BYTES, client_messages, close_frame, encode_client, encode_peer,
    encode_server, frame_bytes_needed, open_frame, split_frame,
};
use support::{
    decode_client, decode_peer, decode_server, expect_file, peer,
    random::Rng,
    samples,
    targets::{client_body, peer_body, server_body, stream},
    unhex,
};

/// `testdata/hostile.txt`: lines `TARGET HEX => OUTCOME`, comments and blank lines. New cases are written without the
/// outcome, which `UPDATE_EXPECT=1` fills in; what the fuzzer finds goes there too.
#[test]
fn kept_cases_are_answered_as_kept() {
    let text = include_str!("../testdata/hostile.txt");
    let mut again = String::new();
    let mut cases = 0;
    for line in text.lines() {
        if line.is_empty() || line.starts_with('#') {
            writeln!(again, "{line}").expect("a string takes all");
            continue;
        }
        let case = line.split(" =>").next().unwrap_or_default().trim_end();
        let (target, digits) = case.split_once(' ').unwrap_or((case, ""));
        let bytes = unhex(digits);
        let outcome = match target {
            "client" => client_body(&bytes),
            "server" => server_body(&bytes),
            "peer" => peer_body(&bytes),
            "stream" => stream(&bytes),
            other => panic!("no target {other}"),
        };
        let outcome = outcome.map_or_else(|error| error.to_string(), |n| format!("{n} accepted"));
        writeln!(again, "{case} => {outcome}").expect("a string takes all");
        cases += 1;
    }
    assert!(cases >= 50, "only {cases} cases");
    expect_file("hostile.txt", &again);
}

fn peer_bodies() -> Vec<Vec<u8>> {
    let bytes = |envelope| {
        let mut bytes = Vec::new();
        encode_peer(envelope, &mut bytes).expect("a sample");
        bytes
    };
    peer::samples().iter().map(|(_, envelope)| bytes(envelope)).collect()
}

fn bodies() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let encode = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = Vec::new();
        write(&mut bytes);
        bytes
    };
    let client = samples::client().iter().map(|(_, m)| encode(&|b| encode_client(m, b).expect("a sample"))).collect();
    let server = samples::server().iter().map(|(_, m)| encode(&|b| encode_server(m, b).expect("a sample"))).collect();
    (client, server)
}

#[test]
fn a_message_cut_off_anywhere_is_refused() {
    let (client, server) = bodies();
    for body in client {
        for length in 1..body.len() {
            let error = decode_client(&body[..length]).expect_err("a part of a message");
            assert!(matches!(error, DecodeError::Truncated { .. } | DecodeError::TooLong { .. }), "{error}");
        }
    }
    for body in server {
        for length in 1..body.len() {
            let error = decode_server(&body[..length]).expect_err("a part of a message");
            assert!(matches!(error, DecodeError::Truncated { .. } | DecodeError::TooLong { .. }), "{error}");
        }
    }
    for body in peer_bodies() {
        for length in 1..body.len() {
            let error = decode_peer(&body[..length]).expect_err("a part of a message");
            assert!(matches!(error, DecodeError::Truncated { .. } | DecodeError::TooLong { .. }), "{error}");
        }
    }
}

#[test]
fn a_frame_cut_off_anywhere_asks_for_more() {
    for body in bodies().0 {
        let frame = framed(&body);
        for length in 0..frame.len() {
            assert_eq!(split_frame(&frame[..length], 1 << 20), Ok(None));
            let needed = if length < HEADER_BYTES { HEADER_BYTES } else { frame.len() };
            assert_eq!(frame_bytes_needed(&frame[..length], 1 << 20), Ok(needed));
        }
        assert_eq!(split_frame(&frame, 1 << 20), Ok(Some((&body[..], frame.len()))));
    }
}

#[test]
fn any_flipped_bit_is_another_message_or_refused() {
    let (client, server) = bodies();
    let mut refused = 0_usize;
    for (bodies, target) in [(client, client_body as fn(&[u8]) -> _), (server, server_body), (peer_bodies(), peer_body)]
    {
        for body in bodies {
            let frame = framed(&body);
            for bit in 0..frame.len() * 8 {
                let mut flipped = frame.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                let outcome = match split_frame(&flipped, 1 << 20) {
                    Ok(Some((body, _))) => target(body).err(),
                    Ok(None) => None,
                    Err(error) => Some(error),
                };
                refused += usize::from(outcome.is_some());
                assert!(bit >= 32 || outcome.is_some(), "bit {bit} of the header was not missed");
            }
        }
    }
    assert!(refused > 0);
}

/// About 280,000 cases, the same on every run.
#[test]
fn random_mutations_do_no_harm() {
    let (client, server) = bodies();
    let peer = peer_bodies();
    let mut rng = Rng(0x10C7);
    let (mut accepted, mut refused) = (0_u32, 0_u32);
    let mut count = |outcome: Result<usize, DecodeError>| match outcome {
        Ok(_) => accepted += 1,
        Err(_) => refused += 1,
    };
    for _ in 0..70_000 {
        count(client_body(&mutated(&client, &mut rng)));
        count(server_body(&mutated(&server, &mut rng)));
        count(peer_body(&mutated(&peer, &mut rng)));
        let mut bytes = vec![rng.next() as u8];
        for _ in 0..=rng.below(3) {
            let body = mutated(&client, &mut rng);
            bytes.extend(framed(&body));
        }
        if rng.yes() {
            damage(&mut bytes, &mut rng);
        }
        count(stream(&bytes));
    }
    assert!(accepted > 20_000 && refused > 20_000, "{accepted} accepted, {refused} refused: no longer a test of both");
}

/// One seed or two behind each other, damaged in some places.
fn mutated(seeds: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = seeds[rng.below(seeds.len())].clone();
    if rng.below(4) == 0 {
        bytes.extend_from_slice(&seeds[rng.below(seeds.len())]);
    }
    for _ in 0..rng.below(4) {
        damage(&mut bytes, rng);
    }
    bytes
}

fn damage(bytes: &mut Vec<u8>, rng: &mut Rng) {
    let at = rng.below(bytes.len() + 1);
    match rng.below(6) {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, rng.next() as u8),
        2 => bytes.splice(at..at, (0..rng.below(9)).map(|_| 0xFF)).for_each(drop),
        _ if at == bytes.len() => {}
        3 => bytes[at] = rng.pick(&[0, 1, 0x7F, 0x80, 0xFF]),
        4 => bytes[at] ^= 1 << rng.below(8),
        _ => drop(bytes.remove(at)),
    }
}

fn framed(body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let mark = open_frame(&mut frame);
    frame.extend_from_slice(body);
    close_frame(&mut frame, mark);
    frame
}

#[test]
fn messages_before_the_error_are_given_and_none_after() {
    let mut body = Vec::new();
    encode_client(&ClientMessage::Renew { seq: 1 }, &mut body).expect("a message");
    body.push(0x7F);
    encode_client(&ClientMessage::Renew { seq: 2 }, &mut body).expect("a message");
    let mut messages = client_messages(&body, &DecodeLimits::CEILING);
    assert_eq!(messages.next(), Some(Ok(ClientMessage::Renew { seq: 1 })));
    assert_eq!(messages.next(), Some(Err(DecodeError::Opcode { at: 9, found: 0x7F })));
    assert_eq!((messages.next(), messages.next()), (None, None));
}

#[test]
fn the_other_side_s_messages_are_refused() {
    let (client, server) = bodies();
    for body in client {
        assert_eq!(decode_server(&body), Err(DecodeError::Opcode { at: 0, found: body[0] }));
    }
    for body in server {
        assert_eq!(decode_client(&body), Err(DecodeError::Opcode { at: 0, found: body[0] }));
    }
}

#[test]
fn metadata_over_the_node_s_limit_is_refused() {
    let limits = Limits { meta_bytes: 20, ..Limits::default() };
    let open = |purpose: usize| {
        let (host, program, purpose) = ("host".into(), "prog".into(), "p".repeat(purpose));
        let meta = Meta { host, pid: 1, program, purpose, within: None };
        let mut body = Vec::new();
        let ttl = lockstead_types::Span::from_secs(1);
        let message = ClientMessage::Open { session: lockstead_types::SessionId(1), ttl, meta };
        encode_client(&message, &mut body).expect("a message");
        body
    };
    assert!(client_messages(&open(12), &DecodeLimits::of_node(&limits)).all(|m| m.is_ok()));
    let over = open(13);
    let error = client_messages(&over, &DecodeLimits::of_node(&limits)).next();
    assert_eq!(error, Some(Err(DecodeError::TooLong { at: 25, field: "metadata", length: 21, max: 20 })));
}

#[test]
fn a_frame_at_the_limit_passes_and_one_over_it_does_not() {
    let frame = framed(&[0; 56]);
    assert!(matches!(split_frame(&frame, 64), Ok(Some((_, 64)))));
    let error = DecodeError::FrameTooLong { length: 64, max: 63 };
    assert_eq!(split_frame(&frame, 63), Err(error));
    assert_eq!(split_frame(&frame[..HEADER_BYTES], 63), Err(error), "before its body has come");
    assert_eq!(error.rejection(), Rejection::FrameTooLong);
}

#[test]
fn other_protocols_are_told_in_their_own() {
    let foreign = |start: &[u8]| match split_frame(start, 1 << 20) {
        Err(DecodeError::Foreign(foreign)) => foreign,
        other => panic!("{start:?}: {other:?}"),
    };
    for start in [&b"GET / HTTP/1.1\r\n"[..], b"POST", b"P", b"PRI * HTTP/2.0\r\n"] {
        assert_eq!(foreign(start), Foreign::Http);
    }
    for start in [&[0x16, 3, 1, 2, 0][..], &[0x16]] {
        assert_eq!(foreign(start), Foreign::Tls);
    }
    for start in [&b"\r\n"[..], b"SSH-2.0-", &[0], &[0x16, 4], b"get /", &[0xBD, 0]] {
        assert_eq!(foreign(start), Foreign::Unknown);
    }
    let answer = Foreign::Http.answer().map(String::from_utf8_lossy).expect("HTTP has words");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.1 400 "));
    assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}\n{}", body.len());
    assert_eq!(Foreign::Tls.answer().map(<[u8]>::len), Some(7));
}

#[test]
fn a_node_s_rejection_can_be_read_by_any_version() {
    let mut body = Vec::new();
    encode_server(&ServerMessage::Rejected { why: Rejection::Version }, &mut body).expect("a message");
    assert_eq!(framed(&body), [0xBD, b'L', 1, 0, 2, 0, 0, 0, 0x82, 0]);
}
