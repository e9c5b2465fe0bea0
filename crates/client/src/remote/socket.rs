//! One connected socket of either kind, non-blocking.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use tokio::{
    io::Interest,
    net::{TcpStream, UnixStream},
};

use crate::endpoint::Endpoint;

pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    pub(super) async fn connect(endpoint: &Endpoint) -> io::Result<Socket> {
        match endpoint {
            Endpoint::Tcp(address) => {
                let stream = TcpStream::connect(address.as_str()).await?;
                // Requests are gathered here; the kernel need not wait for more.
                stream.set_nodelay(true)?;
                Ok(Socket::Tcp(stream))
            }
            Endpoint::Unix(path) => Ok(Socket::Unix(UnixStream::connect(path).await?)),
        }
    }

    /// Reads once. A read that leaves room has taken all there was, so the socket counts as not readable until the runtime
    /// is told otherwise: it is not read a second time only to hear that nothing is there.
    pub(super) fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let mut short = None;
        let outcome = match self {
            Socket::Tcp(stream) => stream.try_io(Interest::READABLE, || read_once(stream.as_fd(), buf, &mut short)),
            Socket::Unix(stream) => stream.try_io(Interest::READABLE, || read_once(stream.as_fd(), buf, &mut short)),
        };
        short.map_or(outcome, Ok)
    }

    pub(super) fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.try_write(buf),
            Socket::Unix(stream) => stream.try_write(buf),
        }
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.readable().await,
            Socket::Unix(stream) => stream.readable().await,
        }
    }

    pub(super) async fn writable(&self) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.writable().await,
            Socket::Unix(stream) => stream.writable().await,
        }
    }

    pub(super) fn unix_copy(&self) -> Option<OwnedFd> {
        match self {
            Socket::Tcp(_) => None,
            Socket::Unix(stream) => stream.as_fd().try_clone_to_owned().ok(),
        }
    }
}

/// One read. What leaves room goes to `short`, and `WouldBlock` to the runtime. The end of the stream is no short read.
fn read_once(fd: BorrowedFd<'_>, buf: &mut [u8], short: &mut Option<usize>) -> io::Result<usize> {
    let count = rustix::io::read(fd, &mut *buf)?;
    if count == 0 || count == buf.len() {
        return Ok(count);
    }
    *short = Some(count);
    Err(io::ErrorKind::WouldBlock.into())
}
