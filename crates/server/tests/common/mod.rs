//! A client made of bytes: what the tests of the server speak to it with.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(unreachable_pub, reason = "a module of test binaries")]

use core::{net::SocketAddr, time::Duration};
use std::{
    collections::VecDeque,
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::Path,
};

use lockstead_server::{Running, Server, ServerConfig};
use lockstead_types::{
    Flags, LockId, Mode, RequestId, SessionId, SpaceId, Span,
    message::{Attached, ClientMessage, PROTOCOL_VERSION, Rejection, ServerMessage, Welcome},
    reply::{Grant, Reply},
    report::Meta,
    request::{Claim, LockRequest, Op, OwnerRef, ReleaseRequest, Wait},
};
use lockstead_wire::{DecodeLimits, FrameWriter, server_messages, split_frame};

pub const NL: Mode = Mode(0);
pub const PR: Mode = Mode(3);
pub const EX: Mode = Mode(5);
pub const TTL: Span = Span::from_secs(10);

/// A server on loopback with a free port.
pub fn config() -> ServerConfig {
    ServerConfig { client_tcp: Some("127.0.0.1:0".parse().expect("an address")), threads: 2, ..ServerConfig::default() }
}

pub fn start(config: ServerConfig) -> Running {
    Server::start(config).unwrap_or_else(|error| panic!("{error}"))
}

pub fn tcp(server: &Running) -> Peer {
    Peer::tcp(server.client_tcp().expect("listens on TCP"))
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// One connection.
pub struct Peer {
    stream: Stream,
    bytes: Vec<u8>,
    inbox: VecDeque<ServerMessage>,
    /// Messages of each frame received.
    pub frames: Vec<usize>,
    next: u64,
}

impl Peer {
    pub fn tcp(address: SocketAddr) -> Peer {
        let stream = TcpStream::connect(address).expect("connects");
        stream.set_nodelay(true).expect("a TCP socket");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
        Peer::on(Stream::Tcp(stream))
    }

    pub fn unix(path: &Path) -> Peer {
        let stream = UnixStream::connect(path).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
        Peer::on(Stream::Unix(stream))
    }

    fn on(stream: Stream) -> Peer {
        Peer { stream, bytes: Vec::new(), inbox: VecDeque::new(), frames: Vec::new(), next: 1 }
    }

    /// Sends messages in one frame.
    pub fn send(&mut self, messages: &[ClientMessage<'_>]) {
        let bytes = frame(messages);
        self.send_bytes(&bytes);
    }

    /// Sends bytes; a server that has closed already does not matter.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = match &mut self.stream {
            Stream::Tcp(stream) => stream.write_all(bytes),
            Stream::Unix(stream) => stream.write_all(bytes),
        };
    }

    pub fn shutdown_write(&self) {
        let done = match &self.stream {
            Stream::Tcp(stream) => stream.shutdown(std::net::Shutdown::Write),
            Stream::Unix(stream) => stream.shutdown(std::net::Shutdown::Write),
        };
        done.expect("connected");
    }

    /// The next message, `None` at the end.
    pub fn try_recv(&mut self) -> Option<ServerMessage> {
        loop {
            if let Some(message) = self.inbox.pop_front() {
                return Some(message);
            }
            let whole = split_frame(&self.bytes, u32::MAX).expect("frames of the server");
            if let Some((body, length)) = whole {
                let messages = server_messages(body, &DecodeLimits::CEILING);
                let messages = messages.collect::<Result<Vec<_>, _>>().expect("messages of the server");
                self.frames.push(messages.len());
                self.inbox.extend(messages);
                self.bytes.drain(..length);
                continue;
            }
            let mut chunk = vec![0; 65_536];
            let read = match &mut self.stream {
                Stream::Tcp(stream) => stream.read(&mut chunk),
                Stream::Unix(stream) => stream.read(&mut chunk),
            };
            match read {
                Ok(0) => return None,
                Ok(n) => self.bytes.extend_from_slice(&chunk[..n]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("nothing came: {error}"),
            }
        }
    }

    pub fn recv(&mut self) -> ServerMessage {
        self.try_recv().expect("the connection is open")
    }

    /// The raw bytes until the server closes.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = core::mem::take(&mut self.bytes);
        let _ = match &mut self.stream {
            Stream::Tcp(stream) => stream.read_to_end(&mut bytes),
            Stream::Unix(stream) => stream.read_to_end(&mut bytes),
        };
        bytes
    }

    pub fn hello(&mut self) -> Welcome {
        self.send(&[ClientMessage::Hello { version: PROTOCOL_VERSION }]);
        match self.recv() {
            ServerMessage::Welcome(welcome) => welcome,
            other => panic!("{other:?}"),
        }
    }

    /// Hello and open.
    pub fn open(mut self, session: u128, ttl: Span) -> Peer {
        self.hello();
        self.send(&[ClientMessage::Open { session: SessionId(session), ttl, meta: Meta::default() }]);
        match self.recv() {
            ServerMessage::Opened { .. } => self,
            other => panic!("{other:?}"),
        }
    }

    /// Hello and attach.
    pub fn attach(&mut self, session: u128) -> Option<Attached> {
        self.hello();
        let (session, ttl, meta) = (SessionId(session), TTL, Meta::default());
        self.send(&[ClientMessage::Attach { session, ttl, meta, answers: 0 }]);
        match self.recv() {
            ServerMessage::Attached(attached) => {
                self.next = attached.seen.0 + 1;
                Some(attached)
            }
            ServerMessage::Ended => None,
            other => panic!("{other:?}"),
        }
    }

    /// Sends a request and gives its number.
    pub fn request(&mut self, op: Op<'_>) -> RequestId {
        let id = RequestId(self.next);
        self.next += 1;
        self.send(&[ClientMessage::Request { id, op }]);
        id
    }

    /// The next answer, whatever came between.
    pub fn reply(&mut self, to: RequestId) -> Reply {
        loop {
            match self.recv() {
                ServerMessage::Reply { id, reply } if id == to => return reply,
                ServerMessage::Reply { .. } | ServerMessage::Notice(_) | ServerMessage::Renewed { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub fn ask(&mut self, op: Op<'_>) -> Reply {
        let id = self.request(op);
        self.reply(id)
    }

    /// A lock that must be granted at once.
    pub fn lock(&mut self, name: &str, mode: Mode) -> Grant {
        match self.ask(lock_op(name, mode, Wait::Never)) {
            Reply::Granted(grant) => grant,
            other => panic!("{name}: {other:?}"),
        }
    }

    pub fn release(&mut self, lock: LockId) {
        let release = ReleaseRequest { lock, flags: Flags::NONE, value: None };
        assert_eq!(self.ask(Op::Release { release, one_way: false }), Reply::Released);
    }

    /// The reason the server gives, and that it closes.
    pub fn rejected(&mut self) -> Option<Rejection> {
        let mut why = None;
        while let Some(message) = self.try_recv() {
            if let ServerMessage::Rejected { why: reason } = message {
                why = Some(reason);
            }
        }
        why
    }
}

pub fn frame(messages: &[ClientMessage<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = FrameWriter::new(u32::MAX);
    for message in messages {
        writer.client(&mut bytes, message).expect("a message that can be said");
    }
    bytes
}

pub fn lock_op(name: &str, mode: Mode, wait: Wait) -> Op<'_> {
    Op::Lock(LockRequest {
        space: SpaceId(0),
        name: name.as_bytes(),
        claim: Claim::Mode(mode),
        wait,
        flags: Flags::NONE,
        owner: OwnerRef::Session,
        tag: 0,
        priority: 0,
    })
}
