//! Ports of the nodes: those of node i begin at a base + 10 (i-1), with clients there, other nodes 1 above and the admin page
//! 2 above.

use core::{
    hash::{BuildHasher as _, Hasher as _},
    net::{Ipv4Addr, SocketAddr},
};
use std::{hash::RandomState, net::TcpListener};

use crate::exit::{Exit, Failure};

/// The distance of the port for other nodes from that for clients.
const PEER: u16 = 1;
/// The admin page's.
const ADMIN: u16 = 2;
/// From one node to the next.
const NODE: u16 = 10;
/// Where `auto` looks for free ports.
const AUTO: core::ops::Range<u16> = 12_000..30_000;
/// Tries at finding free ports.
const TRIES: u32 = 64;

/// Where the ports begin.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Base {
    /// Here.
    At(u16),
    /// Where there is room.
    Auto,
}

/// The addresses of a node.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Ports {
    /// For clients.
    pub(crate) client: SocketAddr,
    /// For other nodes.
    pub(crate) peer: SocketAddr,
    /// For the admin page.
    pub(crate) admin: SocketAddr,
}

impl Base {
    /// Reads `auto` or a number.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub(crate) fn parse(text: &str) -> Result<Base, String> {
        if text == "auto" {
            return Ok(Base::Auto);
        }
        let number = text.parse::<u16>().ok().filter(|base| (1..=u16::MAX - ADMIN).contains(base));
        number.map(Base::At).ok_or_else(|| "a port from 1 to 65533, or auto".to_owned())
    }

    /// Ports of so many nodes that are free now.
    ///
    /// # Errors
    /// [`Exit::Unavailable`] where they are not.
    pub(crate) fn find(self, nodes: u16) -> Result<Vec<Ports>, Failure> {
        match self {
            Base::At(base) => {
                let beyond = || Exit::Usage.because(format!("--port {base}: {nodes} nodes need ports beyond 65535"));
                let all = Ports::of(base, nodes).ok_or_else(beyond)?;
                for ports in &all {
                    ports.check().map_err(|(address, error)| taken(address, &error))?;
                }
                Ok(all)
            }
            Base::Auto => (0..TRIES)
                .filter_map(|_| Ports::of(any_base(), nodes))
                .find(|all| all.iter().all(|ports| ports.check().is_ok()))
                .ok_or_else(|| Exit::Unavailable.because("no free ports on 127.0.0.1")),
        }
    }
}

impl Ports {
    fn of(base: u16, nodes: u16) -> Option<Vec<Ports>> {
        (0..nodes)
            .map(|i| {
                let first = base.checked_add(i.checked_mul(NODE)?)?;
                let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                let (peer, admin) = (first.checked_add(PEER)?, first.checked_add(ADMIN)?);
                Some(Ports { client: at(first), peer: at(peer), admin: at(admin) })
            })
            .collect()
    }

    fn check(&self) -> Result<(), (SocketAddr, std::io::Error)> {
        for address in [self.client, self.peer, self.admin] {
            TcpListener::bind(address).map_err(|error| (address, error))?;
        }
        Ok(())
    }
}

/// A base by chance, below the range from which the system gives ports to outgoing connections: none of those may have the port of a
/// node that is to be started again.
fn any_base() -> u16 {
    let chance = RandomState::new().build_hasher().finish() % u64::from(AUTO.end - AUTO.start);
    AUTO.start + u16::try_from(chance).unwrap_or(0) / NODE * NODE
}

fn taken(address: SocketAddr, error: &std::io::Error) -> Failure {
    let why = if error.kind() == std::io::ErrorKind::AddrInUse {
        "another program listens there, maybe another `lockstead dev`; choose with --port BASE, or --port auto"
            .to_owned()
    } else {
        error.to_string()
    };
    Exit::Unavailable.because(format!("cannot listen on {address}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases() {
        assert_eq!(Base::parse("auto"), Ok(Base::Auto));
        assert_eq!(Base::parse("7600"), Ok(Base::At(7_600)));
        for text in ["0", "65534", "x", ""] {
            assert!(Base::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn each_node_has_ten_ports() {
        let all = Ports::of(7_600, 3).expect("room");
        let ports: Vec<_> = all.iter().map(|p| (p.client.port(), p.peer.port(), p.admin.port())).collect();
        assert_eq!(ports, [(7_600, 7_601, 7_602), (7_610, 7_611, 7_612), (7_620, 7_621, 7_622)]);
        assert_eq!(Ports::of(65_530, 2), None);
    }

    #[test]
    fn a_taken_port_is_said_so() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let failure = Base::At(port).find(1).expect_err("taken");
        assert_eq!(failure.exit, Exit::Unavailable);
        assert!(failure.message.contains("--port"), "{failure}");
    }
}
