//! Calls to another node.

use core::time::Duration;
use std::{io, sync::Arc};

use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

use super::{
    RAFT_MAGIC, frame,
    message::{Answer, Call, Hello, Promised, VERSION, Welcome},
};
use crate::{book::Book, group::PeerNode};

/// A connection to another node, made when it is needed and dropped when a call on it fails.
pub(crate) struct Dialer {
    book: Arc<Book>,
    to: u64,
    node: PeerNode,
    stream: Option<TcpStream>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum CallError {
    /// The call was not sent.
    Unreachable(io::Error),
    /// It may have been received.
    Lost(io::Error),
}

impl Dialer {
    pub(crate) fn new(book: Arc<Book>, to: u64, node: PeerNode) -> Dialer {
        Dialer { book, to, node, stream: None }
    }

    /// Whom it calls.
    pub(crate) fn to(&self) -> u64 {
        self.to
    }

    pub(crate) fn is_to(&self, to: u64, node: &PeerNode) -> bool {
        self.to == to && self.node == *node
    }

    /// Notes what the other has said of itself.
    pub(crate) fn promised(&self, promised: Promised) {
        if let Ok(to) = u16::try_from(self.to) {
            self.book.note_promise(to, self.node.identity, promised);
        }
    }

    /// Calls and waits for the answer. A call that is given up midway takes its connection with it.
    pub(crate) async fn call(&mut self, call: &Call, patience: Duration) -> Result<Answer, CallError> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => timeout(patience, self.connect())
                .await
                .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
                .map_err(CallError::Unreachable)?,
        };
        let exchange = async {
            frame::write(&mut stream, call).await?;
            frame::read::<Answer>(&mut stream).await
        };
        let answer = timeout(patience, exchange).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let answer = answer.map_err(CallError::Lost)?;
        self.stream = Some(stream);
        Ok(answer)
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let address = self.book.address(self.to).unwrap_or_else(|| self.node.address.clone());
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        stream.write_all(&RAFT_MAGIC).await?;
        let (from, from_identity) = self.book.own();
        let to = u16::try_from(self.to).map_err(io::Error::other)?;
        let to_identity = self.node.identity;
        let (group, promised) = (self.book.group(), self.book.promised(to, to_identity));
        let hello = Hello { version: VERSION, from, from_identity, to, to_identity, group, promised };
        frame::write(&mut stream, &hello).await?;
        match frame::read(&mut stream).await? {
            Welcome::Yes => Ok(stream),
            Welcome::OtherVersion => Err(io::Error::other("it speaks another version")),
            Welcome::OtherNode => Err(io::Error::other("another node is there, or its data was lost")),
            Welcome::OtherGroup => Err(io::Error::other("it belongs to another cluster")),
            Welcome::Outdated => Err(io::Error::other("its data is older than what it has promised")),
        }
    }
}
