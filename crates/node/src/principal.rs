//! Who is at the other end of a connection, as far as the transport can say.

use alloc::{borrow::ToOwned, string::String};
use core::fmt;

/// Who the transport says is at the other end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Principal {
    /// A process on this host: the peer credentials of its Unix socket.
    Local {
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
        /// Process, as it was when it connected.
        pid: u32,
    },
    /// A network peer, `host:port`.
    Address(String),
    /// The process the node runs in.
    Embedded,
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Principal::Local { uid, gid, pid } => write!(f, "uid={uid} gid={gid} pid={pid}"),
            Principal::Address(address) => f.write_str(address),
            Principal::Embedded => f.write_str("embedded"),
        }
    }
}

impl Principal {
    /// The principal of a text made by `Display`. Text of another form is an address, which equals nobody local.
    #[must_use]
    pub fn parse(text: &str) -> Principal {
        if text == "embedded" {
            return Principal::Embedded;
        }
        parse_local(text).unwrap_or_else(|| Principal::Address(text.to_owned()))
    }

    /// Whether both are the same one for the purpose of going on with a session ([AUTH-2]): of a local one the user counts, as
    /// the process may have handed the session to another; of an address the host counts, as a client comes back from
    /// another port.
    #[must_use]
    pub fn is_same(&self, other: &Principal) -> bool {
        match (self, other) {
            (Principal::Local { uid: a, .. }, Principal::Local { uid: b, .. }) => a == b,
            (Principal::Address(a), Principal::Address(b)) => host(a) == host(b),
            (Principal::Embedded, Principal::Embedded) => true,
            _ => false,
        }
    }

    /// Whether this is the superuser of the node's own host.
    #[must_use]
    pub fn is_superuser(&self) -> bool {
        matches!(self, Principal::Local { uid: 0, .. })
    }
}

fn parse_local(text: &str) -> Option<Principal> {
    let mut words = text.split(' ');
    let uid = words.next()?.strip_prefix("uid=")?.parse().ok()?;
    let gid = words.next()?.strip_prefix("gid=")?.parse().ok()?;
    let pid = words.next()?.strip_prefix("pid=")?.parse().ok()?;
    words.next().is_none().then_some(Principal::Local { uid, gid, pid })
}

/// The part before the last colon: an IPv6 host is written in brackets.
fn host(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn text_and_back() {
        let all = [
            Principal::Local { uid: 1000, gid: 100, pid: 4711 },
            Principal::Address("[::1]:7600".into()),
            Principal::Address("10.0.0.1:5".into()),
            Principal::Embedded,
        ];
        for principal in all {
            assert_eq!(Principal::parse(&principal.to_string()), principal);
        }
        assert_eq!(Principal::parse("uid=x gid=1 pid=1"), Principal::Address("uid=x gid=1 pid=1".into()));
    }

    #[test]
    fn a_client_comes_back_from_another_port_or_process() {
        let at = |a: &str| Principal::Address(a.into());
        assert!(at("[::1]:1").is_same(&at("[::1]:2")));
        assert!(!at("10.0.0.1:1").is_same(&at("10.0.0.2:1")));
        let user = |uid, pid| Principal::Local { uid, gid: 1, pid };
        assert!(user(5, 1).is_same(&user(5, 2)));
        assert!(!user(5, 1).is_same(&user(6, 1)));
        assert!(!user(5, 1).is_same(&Principal::Embedded));
    }
}
