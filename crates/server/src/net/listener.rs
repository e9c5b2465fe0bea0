//! Listening sockets: TCP on loopback, Unix sockets in a folder of our own.

use core::{net::SocketAddr, time::Duration};
use std::{
    fs,
    io::{self, ErrorKind},
    net::TcpStream,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{FileTypeExt, MetadataExt, PermissionsExt},
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
};

use lockstead_node::Principal;
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, accept_with, bind, getsockname, listen, socket_with, sockopt},
};

use super::conn::{Accepted, Origin};
use crate::{data::create_directory, server::StartError};

/// Connections that wait to be accepted. The kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4_096;
/// A silent peer is asked for a sign of life after so long, then every [`KEEPALIVE_EVERY`], [`KEEPALIVE_TRIES`] times.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(15);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEPALIVE_TRIES: u32 = 3;
/// For how long sent bytes may stay unacknowledged before the connection counts as broken.
const USER_TIMEOUT_MS: u32 = 30_000;

/// A socket that accepts connections.
#[derive(Debug)]
pub(crate) enum Listener {
    /// TCP.
    Tcp(OwnedFd),
    /// A Unix socket; its file goes when this is dropped.
    Unix {
        /// The socket.
        fd: OwnedFd,
        /// Removes the file when the listener goes.
        _file: SocketFile,
    },
}

/// The file of a Unix socket that we made. Removed on drop, if it is still the one.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl Listener {
    /// Takes an address for TCP. Says which port it got. Until [`Listener::listen`] clients are refused at once, so that those of a
    /// node that is still on its way into its cluster look for another.
    pub(crate) fn tcp(address: SocketAddr) -> Result<(Listener, SocketAddr), StartError> {
        let wrong =
            |error: Errno| StartError::Listen { key: "client_tcp", at: address.to_string(), error: error.into() };
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(family, SocketType::STREAM, flags, None).map_err(wrong)?;
        sockopt::set_socket_reuseaddr(&fd, true).map_err(wrong)?;
        bind(&fd, &address).map_err(wrong)?;
        let bound = getsockname(&fd).map_err(wrong)?;
        let bound = SocketAddr::try_from(bound).map_err(wrong)?;
        Ok((Listener::Tcp(fd), bound))
    }

    /// Lets clients in. A port that another process has taken since is found out here.
    pub(crate) fn listen(&self) -> Result<(), StartError> {
        listen(self.fd(), BACKLOG).map_err(|error| {
            let address = getsockname(self.fd()).ok().and_then(|address| SocketAddr::try_from(address).ok());
            let at = address.as_ref().map_or_else(|| "the Unix socket".to_owned(), |address| address.to_string());
            let key = if address.is_some() { "client_tcp" } else { "client_unix" };
            StartError::Listen { key, at, error: error.into() }
        })
    }

    /// Listens on a Unix socket, in a folder that is created where it is absent. A file left by a server that is gone is
    /// removed; one that answers is not.
    pub(crate) fn unix(path: &Path) -> Result<Listener, StartError> {
        let wrong = |error| StartError::Listen { key: "client_unix", at: path.display().to_string(), error };
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            create_directory(parent).map_err(StartError::Data)?;
        }
        remove_stale(path).map_err(wrong)?;
        let socket = UnixListener::bind(path).map_err(wrong)?;
        let found = fs::symlink_metadata(path).map_err(wrong)?;
        let file = SocketFile { path: path.to_owned(), identity: (found.dev(), found.ino()) };
        // Who may connect is who may enter the folder, as far as this file is concerned: the user alone.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(wrong)?;
        socket.set_nonblocking(true).map_err(wrong)?;
        Ok(Listener::Unix { fd: OwnedFd::from(socket), _file: file })
    }

    /// The socket.
    pub(crate) fn fd(&self) -> &OwnedFd {
        match self {
            Listener::Tcp(fd) | Listener::Unix { fd, .. } => fd,
        }
    }

    /// The next connection that waits; [`ErrorKind::WouldBlock`] where none does.
    pub(crate) fn accept(&self) -> io::Result<Accepted> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = accept_with(self.fd(), flags)?;
        match self {
            Listener::Tcp(_) => {
                let stream = TcpStream::from(fd);
                let address = stream.peer_addr()?.to_string();
                let fd = OwnedFd::from(stream);
                tune(&fd)?;
                let origin = Origin::Client { local: false, principal: Principal::Address(address) };
                Ok(Accepted { fd, origin })
            }
            Listener::Unix { .. } => {
                // Not rustix' call: its process id is never 0, but the kernel says 0 of a peer in a process namespace that this
                // one does not see, a container on the same host for instance.
                let peer = nix::sys::socket::getsockopt(&fd, nix::sys::socket::sockopt::PeerCredentials)?;
                let (uid, gid) = (peer.uid(), peer.gid());
                let pid = u32::try_from(peer.pid()).unwrap_or(0);
                let origin = Origin::Client { local: true, principal: Principal::Local { uid, gid, pid } };
                Ok(Accepted { fd, origin })
            }
        }
    }
}

/// Small messages leave at once; a peer that vanished without a word is found out.
pub(crate) fn tune(fd: &OwnedFd) -> io::Result<()> {
    sockopt::set_tcp_nodelay(fd, true)?;
    sockopt::set_socket_keepalive(fd, true)?;
    sockopt::set_tcp_keepidle(fd, KEEPALIVE_AFTER)?;
    sockopt::set_tcp_keepintvl(fd, KEEPALIVE_EVERY)?;
    sockopt::set_tcp_keepcnt(fd, KEEPALIVE_TRIES)?;
    sockopt::set_tcp_user_timeout(fd, USER_TIMEOUT_MS)?;
    Ok(())
}

/// Removes the socket file of a server that is gone: one that refuses to be connected to.
fn remove_stale(path: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::other("there is a file of that name which is no socket"));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(ErrorKind::AddrInUse, "another server listens there")),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = |found: fs::Metadata| (found.dev(), found.ino()) == self.identity;
        if fs::symlink_metadata(&self.path).is_ok_and(ours) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
