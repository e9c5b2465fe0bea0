//! Answers calls of other nodes.

use core::time::Duration;
use std::{io, sync::Arc};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

use super::{
    frame,
    message::{Answer, Call, Hello, PROPOSED_AT_ONCE, Promised, VERSION, Welcome},
};
use crate::{
    group::{LogCommand, Raft, Snapshot, SnapshotMeta, Vote},
    shared::Core,
};

/// Bytes of a snapshot at most: a million sessions are a tenth of it.
const SNAPSHOT_BYTES: u64 = 1 << 30;

/// How long a caller may take to say who it is.
const HELLO: Duration = Duration::from_secs(5);

/// Answers the calls of one connection until it ends. The magic has been read.
pub(crate) async fn serve(core: Arc<Core>, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let hello = timeout(HELLO, frame::read(&mut stream)).await;
    let hello: Hello = hello.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let welcome = match core.book.own() {
        _ if hello.version != VERSION => Welcome::OtherVersion,
        own if own != (hello.to, hello.to_identity) => Welcome::OtherNode,
        _ if core.book.group().zip(hello.group).is_some_and(|(own, other)| own != other) => Welcome::OtherGroup,
        _ if hello.promised.is_some_and(|promised| core.has_less(promised)) => Welcome::Outdated,
        _ => Welcome::Yes,
    };
    frame::write(&mut stream, &welcome).await?;
    if matches!(welcome, Welcome::Outdated) {
        core.give_up_outdated(&format!("node {} has heard from it of later ones", hello.from)).await;
    }
    if !matches!(welcome, Welcome::Yes) {
        return Ok(());
    }
    let mut caller = Caller { core, hello, incoming: None };
    loop {
        let call = frame::read(&mut stream).await?;
        let answer = caller.answer(call).await?;
        frame::write(&mut stream, &answer).await?;
    }
}

/// Who calls.
struct Caller {
    core: Arc<Core>,
    hello: Hello,
    /// A snapshot of which some bytes have come.
    incoming: Option<Incoming>,
}

struct Incoming {
    vote: Vote,
    meta: SnapshotMeta,
    bytes: Vec<u8>,
    whole: u64,
}

impl Caller {
    async fn answer(&mut self, call: Call) -> io::Result<Answer> {
        let raft = &self.core.raft;
        Ok(match call {
            // Appends and snapshots come from leaders, who are right about who they are even where this node is behind.
            Call::Append(rpc) => {
                // Who leads has written down that it does.
                let promised = Promised { term: rpc.vote.leader_id().term, last: None };
                self.core.book.note_promise(self.hello.from, self.hello.from_identity, promised);
                raft.append_entries(rpc).await.map_or_else(failed, Answer::Append)
            }
            // A node whose data was lost must not be elected by those who have heard that it is another now.
            Call::Vote(_) | Call::PreVote(_) if self.core.book.is_other(self.hello.from, self.hello.from_identity) => {
                Answer::Failed("its data is not what was admitted".into())
            }
            Call::Vote(rpc) => raft.vote(rpc).await.map_or_else(failed, Answer::Vote),
            Call::PreVote(rpc) => raft.pre_vote(rpc).await.map_or_else(failed, Answer::Vote),
            Call::Transfer(rpc) => raft.handle_transfer_leader(rpc).await.map_or_else(failed, Answer::Transfer),
            Call::Snapshot(vote, meta, whole) => {
                if whole > SNAPSHOT_BYTES {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a snapshot is too long"));
                }
                self.incoming = Some(Incoming { vote, meta, bytes: Vec::new(), whole });
                Answer::Taken
            }
            Call::SnapshotPart(part) => return self.take_part(&part).await,
            Call::Propose(commands) => {
                if commands.len() > PROPOSED_AT_ONCE {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "too many commands in a call"));
                }
                propose(raft, commands).await
            }
            Call::Renew(incarnation) => {
                let other = self.core.book.is_other(self.hello.from, self.hello.from_identity);
                Answer::Renewed(if other { None } else { self.core.leader.renew(self.hello.from, incarnation).await })
            }
        })
    }

    async fn take_part(&mut self, part: &[u8]) -> io::Result<Answer> {
        let odd = || io::Error::new(io::ErrorKind::InvalidData, "a part of no snapshot");
        let incoming = self.incoming.as_mut().ok_or_else(odd)?;
        incoming.bytes.extend_from_slice(part);
        let has = incoming.bytes.len() as u64;
        if part.is_empty() || has > incoming.whole {
            return Err(odd());
        }
        if has < incoming.whole {
            return Ok(Answer::Taken);
        }
        let Some(Incoming { vote, meta, bytes, .. }) = self.incoming.take() else { return Err(odd()) };
        let snapshot = Snapshot { meta, snapshot: Arc::new(bytes) };
        Ok(self.core.raft.install_full_snapshot(vote, snapshot).await.map_or_else(failed, Answer::Snapshot))
    }
}

/// Puts commands into the log, if this node leads. Their fate is seen in the log.
pub(crate) async fn propose(raft: &Raft, commands: Vec<Vec<u8>>) -> Answer {
    if let Err(why) = raft.as_leader() {
        return failed(why);
    }
    for command in commands {
        if let Err(why) = crate::codec::decode_command(&command) {
            // It would end every node that applies it.
            return Answer::Failed(format!("no command: {why}"));
        }
        if let Err(why) = raft.write(LogCommand(command)).await {
            return failed(why);
        }
    }
    Answer::Taken
}

fn failed<E: core::fmt::Display>(why: E) -> Answer {
    Answer::Failed(why.to_string())
}
