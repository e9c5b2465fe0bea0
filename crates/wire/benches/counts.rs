//! The instructions of writing and reading the hot messages, for callgrind: `--cases` prints what there is, `CASE N` runs
//! it N times, many to a frame. `cargo xtask bench` takes the difference of two runs.

use core::hint::black_box;
use std::process::ExitCode;

use lockstead_types::{
    Flags, LockId, Mode, RequestId, SpaceId, Token,
    message::{ClientMessage, ServerMessage},
    reply::{Grant, Reply},
    request::{Claim, LockRequest, Op, OwnerRef, ReleaseRequest, Wait},
};
use lockstead_wire::{DecodeLimits, FrameWriter, client_messages, server_messages, split_frame};

const FRAME_BYTES: u32 = 1 << 20;
/// Messages of one frame.
const BATCH: u64 = 50;

type Case = fn(u64);

const CASES: &[(&str, Case)] = &[
    ("lock, written", |times| write(times, |w, out, id| w.client(out, &lock(id)).is_ok())),
    ("lock, written and read", |times| client(times, lock)),
    ("release, written and read", |times| client(times, release)),
    ("granted, written", |times| write(times, |w, out, id| w.server(out, &granted(id)).is_ok())),
    ("granted, written and read", |times| server(times, granted)),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [name, times] => {
            let case = CASES.iter().find(|(known, _)| known == name);
            let (Some((_, case)), Ok(times)) = (case, times.parse()) else {
                eprintln!("no such case, or no number: {name} {times}");
                return ExitCode::FAILURE;
            };
            case(times);
        }
        _ => CASES.iter().for_each(|(name, _)| println!("{name}")),
    }
    ExitCode::SUCCESS
}

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

/// Frames of [`BATCH`] messages, `times` messages in all; each frame is given to `read`.
fn frames(times: u64, put: impl Fn(&mut FrameWriter, &mut Vec<u8>, u64) -> bool, mut read: impl FnMut(&[u8])) {
    let mut out = Vec::with_capacity(FRAME_BYTES as usize);
    for _ in 0..times / BATCH {
        out.clear();
        let mut writer = FrameWriter::new(FRAME_BYTES);
        for id in 1..=BATCH {
            assert!(put(&mut writer, &mut out, id), "it fits");
        }
        read(black_box(&out));
    }
}

fn write(times: u64, put: impl Fn(&mut FrameWriter, &mut Vec<u8>, u64) -> bool) {
    frames(times, put, |_| {});
}

fn client(times: u64, make: fn(u64) -> ClientMessage<'static>) {
    let put = |w: &mut FrameWriter, out: &mut Vec<u8>, id| w.client(out, &make(id)).is_ok();
    frames(times, put, |bytes| {
        if let Ok(Some((body, _))) = split_frame(bytes, FRAME_BYTES) {
            client_messages(body, &DecodeLimits::CEILING).for_each(|m| drop(black_box(m)));
        }
    });
}

fn server(times: u64, make: fn(u64) -> ServerMessage) {
    let put = |w: &mut FrameWriter, out: &mut Vec<u8>, id| w.server(out, &make(id)).is_ok();
    frames(times, put, |bytes| {
        if let Ok(Some((body, _))) = split_frame(bytes, FRAME_BYTES) {
            server_messages(body, &DecodeLimits::CEILING).for_each(|m| drop(black_box(m)));
        }
    });
}
