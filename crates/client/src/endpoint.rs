//! Where a client finds the service: endpoints as text, and the rule that turns them into sockets to try.
//!
//! An endpoint is `HOST:PORT`, `tcp://HOST:PORT` or `unix:PATH`; several are separated by commas. One `HOST:PORT` on this
//! host means the Unix socket of the node there, if it exists and is no leftover of a dead one, so a local session (its end is noticed at once, and the
//! node knows who asks); several endpoints, another host or `tcp://` mean TCP, so a remote session. A Unix socket belongs to
//! one node, so it stands alone.
//!
//! Several endpoints are nodes of one cluster. A session begins at one of them, by chance, so that clients spread over the
//! nodes ([`crate::ClientBuilder::prefer`] chooses), and stays with it while it works. When it dies, does not answer or turns
//! the session away, the others are tried in the order written, with a short pause between tries; one that failed in the last
//! 10 s is tried after all others. A connection that worked and breaks is first tried again at the same endpoint. All that
//! happens within the lease: the session and its locks go along, or are lost at the client's own deadline.

use core::fmt;
use core::net::IpAddr;
use std::{
    env,
    io::ErrorKind,
    os::unix::{fs::DirBuilderExt, fs::MetadataExt, net::UnixStream},
    path::{Path, PathBuf},
};

use crate::Error;

/// The environment variable that names endpoints.
pub const ENV: &str = "LOCKSTEAD_ENDPOINTS";
/// The endpoint where nothing is said.
pub const DEFAULT: &str = "127.0.0.1:7600";

/// One way to a node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Endpoint {
    /// TCP, `HOST:PORT`.
    Tcp(String),
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp(address) => f.write_str(address),
            Endpoint::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Reads a comma-separated list and applies the rule of this module.
///
/// # Errors
/// [`Error::Config`] where the list is empty or an entry is no endpoint.
pub fn parse(text: &str) -> Result<Vec<Endpoint>, Error> {
    let entries: Vec<&str> = text.split(',').map(str::trim).filter(|e| !e.is_empty()).collect();
    if entries.is_empty() {
        return Err(Error::Config("no endpoint given".into()));
    }
    parse_entries(&entries, entries.len() == 1)
}

/// Reads a list of endpoints of a session that is to be remote.
///
/// # Errors
/// As [`parse`], and where an entry is a Unix socket.
pub(crate) fn parse_remote(text: &str) -> Result<Vec<Endpoint>, Error> {
    let entries: Vec<&str> = text.split(',').map(str::trim).filter(|e| !e.is_empty()).collect();
    parse_entries(&entries, false)
}

fn parse_entries(entries: &[&str], alone: bool) -> Result<Vec<Endpoint>, Error> {
    let mut endpoints = Vec::new();
    for entry in entries {
        let endpoint = parse_one(entry, alone)?;
        if matches!(endpoint, Endpoint::Unix(_)) && !alone {
            return Err(Error::Config(format!("{entry:?} is the socket of one node: it stands alone, not in a list")));
        }
        if !endpoints.contains(&endpoint) {
            endpoints.push(endpoint);
        }
    }
    Ok(endpoints)
}

/// The text of `LOCKSTEAD_ENDPOINTS`, or the default where it is not set.
#[must_use]
pub fn from_env() -> String {
    env::var(ENV).ok().filter(|text| !text.trim().is_empty()).unwrap_or_else(|| DEFAULT.to_owned())
}

/// Where the Unix socket of a node with this client port is, by convention:
/// `${LOCKSTEAD_RUN_DIR:-/tmp/lockstead-UID}/PORT.sock`.
#[must_use]
pub fn socket_path(port: u16) -> PathBuf {
    run_dir().join(format!("{port}.sock"))
}

/// The directory of [`socket_path`].
#[must_use]
pub fn run_dir() -> PathBuf {
    match env::var_os("LOCKSTEAD_RUN_DIR") {
        Some(dir) if !dir.is_empty() => dir.into(),
        _ => PathBuf::from(format!("/tmp/lockstead-{}", rustix::process::getuid().as_raw())),
    }
}

/// Makes the directory of [`socket_path`] if need be, readable by its owner alone.
///
/// # Errors
/// [`Error::Config`] where it cannot be made, or belongs to somebody else.
pub fn prepare_run_dir() -> Result<PathBuf, Error> {
    let dir = run_dir();
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
    made.map_err(|e| Error::Config(format!("cannot make {}: {e}", dir.display())))?;
    if is_ours(&dir) {
        return Ok(dir);
    }
    Err(Error::Config(format!("{} belongs to another user, or others may write to it", dir.display())))
}

fn parse_one(entry: &str, alone: bool) -> Result<Endpoint, Error> {
    if let Some(path) = entry.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() {
            return Err(Error::Config(format!("{entry:?} names no socket")));
        }
        return Ok(Endpoint::Unix(path.into()));
    }
    let (address, forced) = match entry.strip_prefix("tcp://") {
        Some(rest) => (rest, true),
        None => (entry, false),
    };
    let (host, port) = split_address(address).ok_or_else(|| {
        Error::Config(format!("{entry:?} is no endpoint: write HOST:PORT, tcp://HOST:PORT or unix:PATH"))
    })?;
    let socket = socket_path(port);
    if alone && !forced && is_here(host) && socket.parent().is_some_and(is_ours) && is_listening(&socket) {
        return Ok(Endpoint::Unix(socket));
    }
    Ok(Endpoint::Tcp(address.to_owned()))
}

fn split_address(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let port = port.parse().ok().filter(|p| *p != 0)?;
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    if bare.is_empty() || (bare.contains(':') && bare.len() == host.len()) { None } else { Some((bare, port)) }
}

fn is_here(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// A node that was killed leaves its socket behind, and the next one on its port may listen elsewhere.
fn is_listening(socket: &Path) -> bool {
    match UnixStream::connect(socket) {
        Ok(_) => true,
        Err(e) => !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused),
    }
}

/// A socket in a directory that anybody may write to could be anybody's: it is used only where the directory is ours or
/// root's and closed to others.
fn is_ours(dir: &Path) -> bool {
    let uid = rustix::process::getuid().as_raw();
    std::fs::symlink_metadata(dir)
        .is_ok_and(|m| m.is_dir() && (m.uid() == uid || m.uid() == 0) && m.mode() & 0o022 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_tcp() {
        let list = parse("127.0.0.1:1, localhost:2").expect("a list");
        assert_eq!(list, [Endpoint::Tcp("127.0.0.1:1".into()), Endpoint::Tcp("localhost:2".into())]);
        assert_eq!(parse("h:1,tcp://h:1, h:1,").expect("a list"), [Endpoint::Tcp("h:1".into())], "each once");
        assert_eq!(parse("tcp://[::1]:9").expect("tcp"), [Endpoint::Tcp("[::1]:9".into())]);
    }

    #[test]
    fn unix_paths() {
        for text in ["unix:/run/a.sock", "unix:///run/a.sock"] {
            assert_eq!(parse(text).expect("unix"), [Endpoint::Unix("/run/a.sock".into())]);
        }
    }

    #[test]
    fn nonsense_is_named() {
        for text in ["", " , ", "host", "host:", "host:0", "host:70000", ":1", "::1:5", "unix:", "h:1,unix:/x"] {
            assert!(matches!(parse(text), Err(Error::Config(_))), "{text:?}");
        }
    }
}
