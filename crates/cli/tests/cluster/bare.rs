//! A client of a few frames by hand, which does what the real one never would: it renews nothing, and gives back what is not its any
//! more.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use lockstead_types::{
    Flags, LockId, Refusal, RequestId, SessionId, SpaceId, Span, Token,
    message::{ClientMessage, PROTOCOL_VERSION, ServerMessage},
    reply::Reply,
    report::Meta,
    request::{Claim, LockRequest, Op, OwnerRef, ReleaseRequest, Wait},
    tables::built_in,
};
use lockstead_wire::{DecodeLimits, FIRST_FRAME_BYTES, FrameWriter, server_messages, split_frame};

use crate::common::{LONG, until};

/// What it has read and not looked at yet is in `input`.
pub(crate) struct Bare {
    stream: TcpStream,
    input: Vec<u8>,
    next: u64,
}

impl Bare {
    /// Connects and opens a session that it will never renew.
    pub(crate) fn open(address: &str, session: u128, ttl: Span) -> Bare {
        let stream = until("a connection", LONG, || TcpStream::connect(address).ok());
        stream.set_read_timeout(Some(LONG)).expect("set");
        let mut bare = Bare { stream, input: Vec::new(), next: 1 };
        bare.say(&[
            ClientMessage::Hello { version: PROTOCOL_VERSION },
            ClientMessage::Open { session: SessionId(session), ttl, meta: Meta::default() },
        ]);
        bare.hear(|message| matches!(message, ServerMessage::Opened { .. }).then_some(()));
        bare
    }

    /// Takes a lock that is free.
    pub(crate) fn lock(&mut self, name: &str) -> (LockId, Token) {
        let request = LockRequest {
            space: SpaceId(0),
            name: name.as_bytes(),
            claim: Claim::Mode(built_in("vms").expect("built in").exclusive()),
            wait: Wait::Forever,
            flags: Flags::NONE,
            owner: OwnerRef::Alone,
            tag: 0,
            priority: 0,
        };
        match self.ask(Op::Lock(request)) {
            Some(Reply::Granted(grant)) => (grant.lock, grant.token),
            other => panic!("{name}: {other:?}"),
        }
    }

    /// Gives a lock back. What the answer is; nothing where the node has ended the session or the connection instead.
    pub(crate) fn release(&mut self, lock: LockId) -> Option<Result<(), Refusal>> {
        let release = ReleaseRequest { lock, flags: Flags::NONE, value: None };
        self.ask(Op::Release { release, one_way: false }).map(|reply| match reply {
            Reply::Refused(refusal) => Err(refusal),
            _ => Ok(()),
        })
    }

    fn ask(&mut self, op: Op<'_>) -> Option<Reply> {
        let id = RequestId(self.next);
        self.next += 1;
        self.say(&[ClientMessage::Request { id, op }]);
        self.hear(|message| match message {
            ServerMessage::Reply { id: of, reply } if of == id && !matches!(reply, Reply::Queued(_)) => Some(reply),
            _ => None,
        })
    }

    fn say(&mut self, messages: &[ClientMessage<'_>]) {
        let (mut writer, mut out) = (FrameWriter::new(FIRST_FRAME_BYTES), Vec::new());
        for message in messages {
            writer.client(&mut out, message).expect("it fits");
        }
        writer.finish();
        // Where the node has closed the connection, reading says so.
        let _ = self.stream.write_all(&out);
    }

    /// Reads until there is what is looked for; nothing where the connection ends before.
    fn hear<T>(&mut self, mut look: impl FnMut(ServerMessage) -> Option<T>) -> Option<T> {
        loop {
            let mut found = None;
            while let Some((body, length)) = split_frame(&self.input, FIRST_FRAME_BYTES).expect("a frame") {
                for message in server_messages(body, &DecodeLimits::CEILING) {
                    found = found.or(look(message.expect("a message")));
                }
                self.input.drain(..length);
            }
            if found.is_some() {
                return found;
            }
            let mut bytes = [0; 4_096];
            match self.stream.read(&mut bytes) {
                Ok(0) | Err(_) => return None,
                Ok(length) => self.input.extend_from_slice(&bytes[..length]),
            }
        }
    }
}
