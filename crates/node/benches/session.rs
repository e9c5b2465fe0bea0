//! What an idle session costs a node: bytes allocated for its connection and itself, without the shell's buffers.
//!
//! `cargo bench -p lockstead-node --bench session` prints one line a figure.
#![allow(unsafe_code)]

use core::{
    alloc::{GlobalAlloc, Layout},
    sync::atomic::{AtomicUsize, Ordering},
};
use std::alloc::System;

use lockstead_node::{Input, Node, NodeConfig, Output, Principal};
use lockstead_types::{
    ConnId, Limits, NodeId, SessionId, Span, Time,
    message::{ClientMessage, PROTOCOL_VERSION, ServerMessage},
    report::Meta,
};

struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator as it came; the counter touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise about `layout` is what the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: `at` came from `alloc` above with the same `layout`.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const NOW: Time = Time::from_nanos(1_000_000_000);

fn main() {
    for sessions in [1_000, 60_000] {
        let config = NodeConfig {
            node: NodeId(1),
            epoch: 1,
            limits: Limits::default(),
            hash_seed: 7,
            version: String::new(),
            spaces: Vec::new(),
            recorded: Vec::new(),
            ttl_max_recorded: Span::ZERO,
            durable: false,
            member: None,
        };
        let mut node = Node::new(config, NOW);
        let before = BYTES.load(Ordering::Relaxed);
        for n in 1..=sessions {
            open(&mut node, n);
        }
        let bytes = BYTES.load(Ordering::Relaxed) - before;
        println!("an idle session, one of {sessions:<35} {:8.1} bytes", bytes as f64 / sessions as f64);
    }
}

fn open(node: &mut Node, n: u64) {
    let conn = ConnId(n);
    let principal = Principal::Local { uid: 1_000, gid: 1_000, pid: 4_711 };
    let (host, program, purpose) = ("host.example".into(), "worker".into(), "nightly".into());
    let meta = Meta { host, pid: 4_711, program, purpose, within: None };
    let open = ClientMessage::Open { session: SessionId(u128::from(n)), ttl: Span::from_secs(10), meta };
    node.handle(NOW, Input::Connected { conn, local: true, principal });
    node.handle(NOW, Input::Message { conn, message: ClientMessage::Hello { version: PROTOCOL_VERSION } });
    node.handle(NOW, Input::Message { conn, message: open });
    let mut opened = false;
    while let Some(output) = node.poll_output() {
        opened |= matches!(output, Output::Send { message: ServerMessage::Opened { .. }, .. });
    }
    assert!(opened, "session {n} is open");
}
