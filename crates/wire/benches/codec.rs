//! Nanoseconds to write and to read the hot messages, many to a frame as in a busy connection.
//! `cargo bench -p lockstead-wire`

use core::hint::black_box;
use std::time::Instant;

use lockstead_types::{
    Flags, LockId, Mode, RequestId, SpaceId, Token,
    message::{ClientMessage, ServerMessage},
    reply::{Grant, Reply},
    request::{Claim, LockRequest, Op, OwnerRef, ReleaseRequest, Wait},
};
use lockstead_wire::{DecodeLimits, FrameWriter, client_messages, server_messages, split_frame};

/// Messages of one frame.
const BATCH: u64 = 64;
/// Frames of one timing.
const FRAMES: u32 = 20_000;
/// Timings; the fastest counts, the others were disturbed.
const ROUNDS: u32 = 15;
const FRAME_BYTES: u32 = 1 << 20;

fn lock(id: u64) -> ClientMessage<'static> {
    let request = LockRequest {
        space: SpaceId(0),
        name: b"orders/page:5/row:17",
        claim: Claim::Mode(Mode(5)),
        wait: Wait::Forever,
        flags: Flags::NONE,
        owner: OwnerRef::Alone,
        tag: 0,
        priority: 0,
    };
    ClientMessage::Request { id: RequestId(id), op: Op::Lock(request) }
}

fn release(id: u64) -> ClientMessage<'static> {
    let release = ReleaseRequest { lock: LockId(id), flags: Flags::NONE, value: None };
    ClientMessage::Request { id: RequestId(id), op: Op::Release { release, one_way: true } }
}

fn granted(id: u64) -> ServerMessage {
    let grant = Grant {
        lock: LockId(id),
        claim: Claim::Mode(Mode(5)),
        token: Token::new(1, id).unwrap_or(Token::NONE),
        value: None,
        demoted: false,
        alternative: false,
        seal: None,
    };
    ServerMessage::Reply { id: RequestId(id), reply: Reply::Granted(grant) }
}

fn released(id: u64) -> ServerMessage {
    ServerMessage::Reply { id: RequestId(id), reply: Reply::Released }
}

fn main() {
    println!("message    bytes  write ns  read ns");
    client("lock", lock);
    client("release", release);
    server("granted", granted);
    server("released", released);
}

fn client(name: &str, make: fn(u64) -> ClientMessage<'static>) {
    let mut out = Vec::new();
    let write = fastest(|| {
        out.clear();
        let mut writer = FrameWriter::new(FRAME_BYTES);
        for id in 1..=BATCH {
            // A message that cannot be written would show as a size of nothing.
            let _ = writer.client(&mut out, &black_box(make(id)));
        }
        black_box(&out);
    });
    let read = fastest(|| {
        if let Ok(Some((body, _))) = split_frame(black_box(&out), FRAME_BYTES) {
            client_messages(body, &DecodeLimits::CEILING).for_each(|m| drop(black_box(m)));
        }
    });
    print(name, &out, write, read);
}

fn server(name: &str, make: fn(u64) -> ServerMessage) {
    let mut out = Vec::new();
    let write = fastest(|| {
        out.clear();
        let mut writer = FrameWriter::new(FRAME_BYTES);
        for id in 1..=BATCH {
            let _ = writer.server(&mut out, &black_box(make(id)));
        }
        black_box(&out);
    });
    let read = fastest(|| {
        if let Ok(Some((body, _))) = split_frame(black_box(&out), FRAME_BYTES) {
            server_messages(body, &DecodeLimits::CEILING).for_each(|m| drop(black_box(m)));
        }
    });
    print(name, &out, write, read);
}

/// Nanoseconds a message, of frames of [`BATCH`].
fn fastest(mut frame: impl FnMut()) -> f64 {
    let rounds = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        for _ in 0..FRAMES {
            frame();
        }
        start.elapsed()
    });
    let best = rounds.min().unwrap_or_default();
    best.as_secs_f64() * 1e9 / (f64::from(FRAMES) * BATCH as f64)
}

fn print(name: &str, out: &[u8], write: f64, read: f64) {
    let bytes = (out.len() - lockstead_wire::HEADER_BYTES) as u64 / BATCH;
    println!("{name:<10} {bytes:>5} {write:>9.1} {read:>8.1}");
}
