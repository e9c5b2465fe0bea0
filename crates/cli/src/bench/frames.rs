//! The bench's other client: hand-made frames over blocking sockets, one thread a connection, as much in a frame as there is
//! to say. It shows what a node can do when it is fed in batches; a program would use the client crate.
//!
//! It does not wait for a whole batch: whatever has arrived is answered in one frame, so a name that two of its own ops
//! drew does not stop it.

use core::time::Duration;
use std::{
    fs::File,
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    sync::Arc,
    time::Instant,
};

use lockstead::{
    Claim, Flags,
    endpoint::{self, Endpoint},
};
use lockstead_types::{
    LockId, RequestId, SessionId, SpaceId, Span,
    message::{ClientMessage, PROTOCOL_VERSION, ServerMessage},
    reply::Reply,
    report::Meta,
    request::{LockRequest, Op, OwnerRef, ReleaseRequest, Wait},
};
use lockstead_wire::{DecodeLimits, FIRST_FRAME_BYTES, FrameWriter, server_messages, split_frame};

use super::{
    Plan, Release,
    locker::name_of,
    work::{Random, Shared, Tally, claims},
};
use crate::exit::{Exit, Failure};

/// The lease; renewed each second.
const TTL: Span = Span::from_secs(30);
const RENEW_EVERY: Duration = Duration::from_secs(1);

trait Stream: Read + Write + Send {}
impl Stream for TcpStream {}
impl Stream for UnixStream {}

/// A connection with its session.
pub(super) struct Frames {
    stream: Box<dyn Stream>,
    /// The node's process, on a Unix socket.
    peer: Option<u32>,
    local: bool,
    writer: FrameWriter,
    out: Vec<u8>,
    input: Vec<u8>,
    filled: usize,
    next: u64,
    answers: u64,
    /// For request `id`, at `id % len`: the request, and when its op began.
    began: Vec<(u64, u64)>,
    prefix: String,
    claim: Claim,
    renewed: Instant,
}

impl Frames {
    /// Connects and opens a session.
    ///
    /// # Errors
    /// Where no node answers as one does.
    pub(super) fn open(plan: &Plan, prefix: String) -> Result<Frames, Failure> {
        let endpoints = endpoint::parse(&plan.connect.endpoints).map_err(|e| Exit::Usage.because(e.to_string()))?;
        let (mut peer, mut local) = (None, false);
        let stream: Box<dyn Stream> = match endpoints.first() {
            Some(Endpoint::Unix(path)) => {
                let stream = UnixStream::connect(path).map_err(unreachable)?;
                local = true;
                peer = rustix::net::sockopt::socket_peercred(&stream).ok().map(|peer| peer.pid.as_raw_nonzero().get());
                Box::new(stream)
            }
            Some(Endpoint::Tcp(address)) => {
                let stream = TcpStream::connect(address.as_str()).map_err(unreachable)?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            None => return Err(Exit::Usage.because("no endpoint given")),
        };
        let window = plan.clients.div_ceil(plan.conns).saturating_mul(8).next_power_of_two();
        let mut frames = Frames {
            stream,
            peer: peer.and_then(|pid| u32::try_from(pid).ok()),
            local,
            writer: FrameWriter::new(FIRST_FRAME_BYTES),
            out: Vec::new(),
            input: vec![0; 256 * 1_024],
            filled: 0,
            next: 1,
            answers: 0,
            began: vec![(0, 0); window],
            prefix,
            claim: claims().1,
            renewed: Instant::now(),
        };
        let mut id = [0; 16];
        File::open("/dev/urandom")?.read_exact(&mut id)?;
        let session = SessionId(u128::from_ne_bytes(id));
        let meta = Meta { program: "lockstead".into(), purpose: "bench".into(), ..Meta::default() };
        frames.say(&ClientMessage::Hello { version: PROTOCOL_VERSION });
        frames.say(&ClientMessage::Open { session, ttl: TTL, meta });
        frames.send()?;
        let mut opened = false;
        while !opened {
            frames.receive(|_, message| opened |= matches!(message, ServerMessage::Opened { .. }))?;
        }
        Ok(frames)
    }

    pub(super) fn is_local(&self) -> bool {
        self.local
    }

    pub(super) fn peer(&self) -> Option<u32> {
        self.peer
    }

    /// Locks and releases until it is told to stop.
    ///
    /// # Errors
    /// Where the node refuses or the connection ends.
    pub(super) fn work(mut self, plan: &Plan, shared: &Arc<Shared>, first: usize) -> Result<Tally, Failure> {
        let mut tally = Tally::new();
        let mut random = Random::new(0x5EED + first as u64 * 7919);
        let inflight = (first..plan.clients).step_by(plan.conns).count();
        let now = shared.now();
        for _ in 0..inflight {
            self.lock(&mut random, plan.names, now);
        }
        let mut refused = None;
        while !shared.is_stopped() {
            self.keep_up();
            self.send()?;
            let (mut now, mut counts) = (0, false);
            self.receive(|this, message| {
                if now == 0 {
                    (now, counts) = (shared.now(), shared.is_measuring());
                }
                let ServerMessage::Reply { id, reply } = message else { return };
                this.answers += 1;
                let began = this.began_at(id);
                match reply {
                    Reply::Granted(grant) => {
                        record(counts && id.0.is_multiple_of(plan.sample), &mut tally.acquire, began, now);
                        this.release(grant.lock, plan.release, began);
                        if plan.release == Release::OneWay {
                            tally.ops += u64::from(counts);
                            this.lock(&mut random, plan.names, now);
                        }
                    }
                    Reply::Released => {
                        record(counts && id.0.is_multiple_of(plan.sample), &mut tally.pair, began, now);
                        tally.ops += u64::from(counts);
                        this.lock(&mut random, plan.names, now);
                    }
                    Reply::Queued(_) => {}
                    other => refused = Some(format!("{other:?}")),
                }
            })?;
            if let Some(refused) = refused {
                return Err(Exit::Failed.because(format!("the node answered {refused}")));
            }
        }
        self.out.clear();
        self.writer = FrameWriter::new(FIRST_FRAME_BYTES);
        self.say(&ClientMessage::Goodbye);
        self.send()?;
        Ok(tally)
    }

    fn lock(&mut self, random: &mut Random, names: u64, now: u64) {
        let mut buffer = [0; 64];
        let length = name_of(&self.prefix, random.below(names), &mut buffer);
        let request = LockRequest {
            space: SpaceId(0),
            name: &buffer[..length],
            claim: self.claim,
            wait: Wait::Forever,
            flags: Flags::NONE,
            owner: OwnerRef::Alone,
            tag: 0,
            priority: 0,
        };
        self.ask(Op::Lock(request), now);
    }

    fn release(&mut self, lock: LockId, release: Release, began: Option<u64>) {
        let request = ReleaseRequest { lock, flags: Flags::NONE, value: None };
        let op = Op::Release { release: request, one_way: release == Release::OneWay };
        self.ask(op, began.unwrap_or(u64::MAX));
    }

    fn ask(&mut self, op: Op<'_>, began: u64) {
        let id = RequestId(self.next);
        self.next += 1;
        let at = id.0 as usize & (self.began.len() - 1);
        self.began[at] = (id.0, began);
        self.say(&ClientMessage::Request { id, op });
    }

    /// When the op of a request began, where that is still known.
    fn began_at(&self, id: RequestId) -> Option<u64> {
        let (of, began) = self.began[id.0 as usize & (self.began.len() - 1)];
        (of == id.0 && began != u64::MAX).then_some(began)
    }

    /// Acknowledges, and renews when it is time.
    fn keep_up(&mut self) {
        self.say(&ClientMessage::Ack { answers: self.answers });
        if self.renewed.elapsed() >= RENEW_EVERY {
            self.renewed = Instant::now();
            self.say(&ClientMessage::Renew { seq: 0 });
        }
    }

    fn say(&mut self, message: &ClientMessage<'_>) {
        // Fails for what is too long for a frame; nothing here is.
        let _ = self.writer.client(&mut self.out, message);
    }

    fn send(&mut self) -> Result<(), Failure> {
        self.writer.finish();
        self.stream.write_all(&self.out).map_err(unreachable)?;
        self.out.clear();
        Ok(())
    }

    /// Reads once and hands over every whole message.
    fn receive(&mut self, mut each: impl FnMut(&mut Frames, ServerMessage)) -> Result<(), Failure> {
        if self.filled == self.input.len() {
            self.input.resize(self.filled * 2, 0);
        }
        let read = self.stream.read(&mut self.input[self.filled..]).map_err(unreachable)?;
        if read == 0 {
            return Err(Exit::Unavailable.because("the node closed the connection"));
        }
        self.filled += read;
        let input = core::mem::take(&mut self.input);
        let mut at = 0;
        let strange = |error: lockstead_wire::DecodeError| Exit::Failed.because(error.to_string());
        while let Some((body, consumed)) = split_frame(&input[at..self.filled], FIRST_FRAME_BYTES).map_err(strange)? {
            for message in server_messages(body, &DecodeLimits::CEILING) {
                each(self, message.map_err(strange)?);
            }
            at += consumed;
        }
        self.input = input;
        self.input.copy_within(at..self.filled, 0);
        self.filled -= at;
        Ok(())
    }
}

fn record(counts: bool, into: &mut hdrhistogram::Histogram<u64>, began: Option<u64>, now: u64) {
    if let (true, Some(began)) = (counts, began) {
        into.saturating_record(now.saturating_sub(began).max(1));
    }
}

#[expect(clippy::needless_pass_by_value, reason = "what map_err calls")]
fn unreachable(error: std::io::Error) -> Failure {
    Exit::Unavailable.because(error.to_string())
}
