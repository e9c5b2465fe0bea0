//! The peer port. Its first 8 bytes say what a connection is: a link, a connection of the membership group, or the question
//! who this node is, or who the members are. One thread, so that whoever connects and says nothing holds up nobody.

use core::{net::SocketAddr, sync::atomic::Ordering::Relaxed, time::Duration};
use std::{
    io::{self, ErrorKind},
    net::{TcpListener, TcpStream},
    os::fd::{AsRawFd as _, OwnedFd},
    sync::Arc,
};

use lockstead_membership::RAFT_MAGIC;
use lockstead_types::{Span, Time};
use lockstead_wire::LINK_MAGIC;
use mio::{Events, Interest, Poll, Token, unix::SourceFd};
use rustix::{
    io::Errno,
    net::{RecvFlags, SendFlags, Shutdown, SocketFlags, accept_with, recv, send, shutdown},
};

use super::{
    Cluster,
    members::{self, MEMBERS_MAGIC},
    who::{self, WHO_MAGIC},
};
use crate::{
    clock,
    net::{
        conn::{Accepted, Origin},
        listener::tune,
    },
    server::StartError,
};

/// Connections that have not said yet what they are.
const ARRIVALS: usize = 256;
/// How long they may take.
const SAY_WITHIN: Span = Span::from_secs(5);
/// No sleep is longer, so that an accept that failed is tried again.
const SLEEP_MAX: Duration = Duration::from_millis(250);

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);

/// The peer port.
#[derive(Debug)]
pub(crate) struct Door {
    poll: Poll,
    listener: TcpListener,
    arrivals: Vec<Option<Arrival>>,
}

#[derive(Debug)]
struct Arrival {
    fd: OwnedFd,
    due: Time,
}

/// What a connection turned out to be.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Sort {
    Link,
    Group,
    Who,
    Members,
}

const SORTS: [([u8; 8], Sort); 4] =
    [(LINK_MAGIC, Sort::Link), (RAFT_MAGIC, Sort::Group), (WHO_MAGIC, Sort::Who), (MEMBERS_MAGIC, Sort::Members)];

impl Door {
    /// Listens. Gives the address with the port that was taken, and what ends the thread.
    pub(crate) fn bind(address: SocketAddr) -> Result<(Door, SocketAddr, mio::Waker), StartError> {
        let wrong = |error| StartError::Listen { key: "peer_listen", at: address.to_string(), error };
        let listener = TcpListener::bind(address).map_err(wrong)?;
        listener.set_nonblocking(true).map_err(wrong)?;
        let bound = listener.local_addr().map_err(wrong)?;
        let poll = Poll::new().map_err(StartError::System)?;
        let registered = poll.registry().register(&mut SourceFd(&listener.as_raw_fd()), LISTENER, Interest::READABLE);
        registered.map_err(StartError::System)?;
        let waker = mio::Waker::new(poll.registry(), WAKER).map_err(StartError::System)?;
        Ok((Door { poll, listener, arrivals: Vec::new() }, bound, waker))
    }

    /// Runs until the cluster's part of the server is stopped.
    pub(crate) fn run(mut self, cluster: &Arc<Cluster>) {
        let mut events = Events::with_capacity(64);
        while !cluster.is_stopped() {
            match self.poll.poll(&mut events, Some(SLEEP_MAX)) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => events.clear(),
                Err(error) => {
                    tracing::error!("the peer port cannot be waited for: {error}");
                    return;
                }
            }
            self.accept();
            for event in &events {
                self.look(event.token().0, cluster);
            }
            let now = clock::now();
            for place in &mut self.arrivals {
                if place.as_ref().is_some_and(|arrival| arrival.due <= now) {
                    *place = None;
                }
            }
        }
    }

    fn accept(&mut self) {
        loop {
            let fd = match accept_with(&self.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                Ok(fd) => fd,
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                // Also for want of file descriptors: the next look comes soon.
                Err(_) => return,
            };
            let Some(at) = self.place() else { continue };
            if self.poll.registry().register(&mut SourceFd(&fd.as_raw_fd()), Token(at), Interest::READABLE).is_ok() {
                self.arrivals[at] = Some(Arrival { fd, due: clock::now().after(SAY_WITHIN) });
            }
        }
    }

    fn place(&mut self) -> Option<usize> {
        if let Some(at) = self.arrivals.iter().position(Option::is_none) {
            return Some(at);
        }
        if self.arrivals.len() == ARRIVALS {
            return None;
        }
        self.arrivals.push(None);
        Some(self.arrivals.len() - 1)
    }

    fn look(&mut self, at: usize, cluster: &Arc<Cluster>) {
        let Some(place) = self.arrivals.get_mut(at) else { return };
        let Some(arrival) = place else { return };
        let sort = match sort(&arrival.fd) {
            Ok(Some(sort)) => sort,
            // The rest of the bytes make another event.
            Ok(None) => return,
            Err(_) => {
                *place = None;
                return;
            }
        };
        let Some(Arrival { fd, .. }) = place.take() else { return };
        let _ = self.poll.registry().deregister(&mut SourceFd(&fd.as_raw_fd()));
        if let Err(error) = tune(&fd).and_then(|()| hand_on(fd, sort, cluster)) {
            tracing::debug!("a connection at the peer port is lost: {error}");
        }
    }
}

/// What the first bytes say, without taking them.
fn sort(fd: &OwnedFd) -> io::Result<Option<Sort>> {
    let mut bytes = [0_u8; 8];
    let length = match recv(fd, &mut bytes, RecvFlags::DONTWAIT | RecvFlags::PEEK) {
        Ok((0, _)) => return Err(ErrorKind::UnexpectedEof.into()),
        Ok((length, _)) => length,
        Err(Errno::WOULDBLOCK | Errno::INTR) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let said = bytes.get(..length).unwrap_or_default();
    match SORTS.iter().find(|(magic, _)| magic.starts_with(said)) {
        None => Err(io::Error::new(ErrorKind::InvalidData, "neither a link nor a connection of the group")),
        Some((_, sort)) if length == bytes.len() => Ok(Some(*sort)),
        Some(_) => Ok(None),
    }
}

fn hand_on(fd: OwnedFd, sort: Sort, cluster: &Arc<Cluster>) -> io::Result<()> {
    let mut magic = [0_u8; 8];
    let (length, _) = recv(&fd, &mut magic, RecvFlags::DONTWAIT)?;
    if length != magic.len() {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    match sort {
        Sort::Link => cluster.adopt(Accepted { fd, origin: Origin::Peer { dialed: None } }),
        Sort::Group => {
            let stream = TcpStream::from(fd);
            cluster.with_membership(|group| group.accept(stream, Vec::new())).unwrap_or(Ok(()))?;
        }
        Sort::Who => say(&fd, &who::answer(&cluster.me, cluster.formed.load(Relaxed)))?,
        Sort::Members => say(&fd, &members::answer(cluster))?,
    }
    Ok(())
}

/// It fits the buffer of a connection over which nothing was sent yet; where it does not, whoever asked sees no end of it.
fn say(fd: &OwnedFd, answer: &str) -> io::Result<()> {
    send(fd, answer.as_bytes(), SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?;
    Ok(shutdown(fd, Shutdown::Write)?)
}
