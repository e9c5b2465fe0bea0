//! Nothing is allocated before the bytes that must fill it are there: measured by an allocator that counts.
#![allow(unsafe_code, reason = "a global allocator cannot be written without")]

mod support;

use core::{
    alloc::{GlobalAlloc, Layout},
    cell::Cell,
};
use std::alloc::System;

use lockstead_types::{
    message::{ClientMessage, ServerMessage},
    peer::Envelope,
};
use lockstead_wire::{
    DecodeError, DecodeLimits, client_messages, encode_client, encode_peer, encode_server, peer_messages,
    server_messages, split_frame,
};
use support::{peer, random::Rng, samples};

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is handed on to the system's allocator unchanged; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // Not counted while the thread ends and its locals are gone.
        let _ = ALLOCATED.try_with(|n| n.set(n.get() + layout.size()));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: `ptr` came from `alloc` above with this layout.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes allocated in all while `body` was read, freed ones included.
fn client_cost(body: &[u8]) -> (Result<Vec<ClientMessage<'_>>, DecodeError>, usize) {
    cost(|keep| client_messages(body, &DecodeLimits::CEILING).try_for_each(|m| m.map(|m| keep.push(m))))
}

fn server_cost(body: &[u8]) -> (Result<Vec<ServerMessage>, DecodeError>, usize) {
    cost(|keep| server_messages(body, &DecodeLimits::CEILING).try_for_each(|m| m.map(|m| keep.push(m))))
}

fn peer_cost(body: &[u8]) -> (Result<Vec<Envelope>, DecodeError>, usize) {
    cost(|keep| peer_messages(body).try_for_each(|m| m.map(|m| keep.push(m))))
}

fn cost<T>(read: impl FnOnce(&mut Vec<T>) -> Result<(), DecodeError>) -> (Result<Vec<T>, DecodeError>, usize) {
    // Room for the messages themselves is the reader's own affair.
    let mut keep = Vec::with_capacity(4_096);
    let before = ALLOCATED.get();
    let result = read(&mut keep);
    let spent = ALLOCATED.get() - before;
    (result.map(|()| keep), spent)
}

/// A message costs at most so many times the bytes it came in: an empty text in a list takes 2 bytes here and 24 there.
const TIMES: usize = 12;

#[test]
fn hot_messages_are_read_without_allocating() {
    let hot = ["lock", "convert", "release", "ack", "renew", "cancel", "sync", "read-value", "query", "watch"];
    for (name, message) in samples::client() {
        if hot.iter().any(|h| name.starts_with(h)) {
            let mut body = Vec::new();
            encode_client(&message, &mut body).expect("a sample");
            let allowed = if name == "lock-many" { TIMES * body.len() } else { 0 };
            let (result, spent) = client_cost(&body);
            assert!(result.is_ok() && spent <= allowed, "{name}: {spent} bytes");
        }
    }
    for (name, message) in samples::server() {
        if ["granted", "queued", "released", "refused", "renewed", "blocking"].contains(&name) {
            let mut body = Vec::new();
            encode_server(&message, &mut body).expect("a sample");
            let (result, spent) = server_cost(&body);
            assert!(result.is_ok() && spent == 0, "{name}: {spent} bytes");
        }
    }
}

/// Each of 2, 4 or 8 bytes anywhere in each sample replaced by all ones: among them is every length and count there is.
#[test]
fn oversized_lengths_and_counts_allocate_no_more_than_the_message_is_long() {
    let check = |body: &[u8], spent: usize, name: &str| {
        assert!(spent <= TIMES * body.len(), "{name}: {spent} bytes allocated for {} read", body.len());
    };
    let mut refused = 0;
    for width in [2, 4, 8] {
        for (name, message) in samples::client() {
            let mut body = Vec::new();
            encode_client(&message, &mut body).expect("a sample");
            for at in 1..body.len().saturating_sub(width) {
                let mut body = body.clone();
                body[at..at + width].fill(0xFF);
                let (result, spent) = client_cost(&body);
                check(&body, spent, name);
                refused += usize::from(result.is_err());
            }
        }
        for (name, message) in samples::server() {
            let mut body = Vec::new();
            encode_server(&message, &mut body).expect("a sample");
            for at in 1..body.len().saturating_sub(width) {
                let mut body = body.clone();
                body[at..at + width].fill(0xFF);
                let (result, spent) = server_cost(&body);
                check(&body, spent, name);
                refused += usize::from(result.is_err());
            }
        }
        for (name, envelope) in peer::samples() {
            let mut body = Vec::new();
            encode_peer(&envelope, &mut body).expect("a sample");
            for at in 1..body.len().saturating_sub(width) {
                let mut body = body.clone();
                body[at..at + width].fill(0xFF);
                let (result, spent) = peer_cost(&body);
                check(&body, spent, name);
                refused += usize::from(result.is_err());
            }
        }
    }
    assert!(refused > 1_000, "{refused} refused: no longer a test");
}

/// The worst that is well formed: lists of the smallest members.
#[test]
fn lists_of_the_smallest_members_cost_a_small_multiple() {
    let count = 20_000_u32;
    let list = |head: &[u8], member: &[u8], tail: &[u8]| {
        [head, &count.to_le_bytes(), &member.repeat(count as usize), tail].concat()
    };
    let id = [7, 0, 0, 0, 0, 0, 0, 0];
    let client = [
        // LockMany of requests with empty names.
        list(&[&[0x11][..], &id].concat(), &[0; 17], &[]),
        // SpaceCreate with a relation of empty rows: name "", custom modes named "", no modes.
        list(&[&[0x1A][..], &id, &[0, 0, 1, 0, 0, 0, 0, 0, 0]].concat(), &[0; 2], &[0; 6 + 8 + 5]),
        // The same with modes that have nothing.
        list(&[&[0x1A][..], &id, &[0, 0, 1, 0, 0]].concat(), &[0; 8], &[0; 4 + 6 + 8 + 5]),
    ];
    for (n, body) in client.iter().enumerate() {
        let (result, spent) = client_cost(body);
        assert!(result.is_ok(), "case {n}: {result:?}");
        assert!(spent <= TIMES * body.len(), "case {n}: {spent} bytes for {}", body.len());
    }
    let report = |kind: u8| [&[0x9B][..], &id, &[kind]].concat();
    let server = [
        list(&[&[0x94][..], &id].concat(), &[0; 18], &[]),
        list(&report(0), &[0; 17], &[0]),
        list(&report(2), &[0; 4 + 4 + 2 * 39 + 1], &[0; 8 + 1 + 4]),
        list(&report(3), &[0; 16 + 2 + 2 + 24 + 4 + 2 + 11], &[0]),
        list(&report(4), &[0; 33], &[0; 4]),
    ];
    for (n, body) in server.iter().enumerate() {
        let (result, spent) = server_cost(body);
        assert!(result.is_ok(), "case {n}: {result:?}");
        assert!(spent <= TIMES * body.len(), "case {n}: {spent} bytes for {}", body.len());
    }
}

#[test]
fn lists_of_the_smallest_members_between_nodes_cost_a_small_multiple() {
    let count = 20_000_u32;
    let list = |code: u8, member: &[u8], tail: &[u8]| {
        let head = [&[0; 28][..], &[code], &[0; 4]].concat();
        [&head[..], &count.to_le_bytes(), &member.repeat(count as usize), tail].concat()
    };
    let mut rows = list(0xD3, &[0; 15], &[0; 8]);
    rows.splice(37..38, [1, 0]);
    let cases = [
        // Report: rows that have nothing, the first says that they are no session's; then values that have nothing.
        rows,
        list(0xD3, &[], &[])
            .split_last_chunk::<4>()
            .map(|(head, n)| [head, &[0; 4], n, &[0; 14 * 20_000 + 4]].concat())
            .expect("long"),
        // ReportDone and Restored.
        list(0xD4, &[0; 2], &[]),
        list(0xE3, &[2, 0, 0, 0, 0], &[]),
    ];
    for (n, body) in cases.iter().enumerate() {
        let (result, spent) = peer_cost(body);
        assert!(result.is_ok(), "case {n}: {result:?}");
        assert!(spent <= TIMES * body.len(), "case {n}: {spent} bytes for {}", body.len());
    }
}

#[test]
fn random_messages_cost_a_small_multiple() {
    for seed in 0..3_000 {
        let mut rng = Rng(seed);
        let (mut client, mut server) = (Vec::new(), Vec::new());
        encode_client(&rng.client(), &mut client).expect("a random message");
        encode_server(&rng.server(), &mut server).expect("a random message");
        let (read, spent) = client_cost(&client);
        assert!(read.is_ok() && spent <= TIMES * client.len(), "seed {seed}: {spent} bytes");
        let (read, spent) = server_cost(&server);
        assert!(read.is_ok() && spent <= TIMES * server.len(), "seed {seed}: {spent} bytes");
        let mut peer = Vec::new();
        encode_peer(&rng.peer(), &mut peer).expect("a random message");
        let (read, spent) = peer_cost(&peer);
        assert!(read.is_ok() && spent <= TIMES * peer.len(), "seed {seed}: {spent} bytes");
    }
}

#[test]
fn a_header_that_announces_gigabytes_allocates_nothing() {
    let before = ALLOCATED.get();
    let huge = split_frame(&[0xBD, b'L', 1, 0, 0xFF, 0xFF, 0xFF, 0xFF], u32::MAX);
    assert_eq!(ALLOCATED.get(), before);
    assert_eq!(huge, Err(DecodeError::FrameTooLong { length: 0x1_0000_0007, max: u32::MAX }));
}
