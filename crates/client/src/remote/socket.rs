//! One connected socket of either kind, non-blocking.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use tokio::net::{TcpStream, UnixStream};

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

    pub(super) fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.try_read(buf),
            Socket::Unix(stream) => stream.try_read(buf),
        }
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
