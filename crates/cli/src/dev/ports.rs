//! Ports of a node: clients at a base, the admin page 2 above.

use core::net::{Ipv4Addr, SocketAddr};
use std::net::TcpListener;

use crate::exit::{Exit, Failure};

/// The admin page's distance from the base.
const ADMIN: u16 = 2;
/// Tries at finding free ports.
const TRIES: u32 = 64;

/// Where the ports of a node begin.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Base {
    /// Here.
    At(u16),
    /// Where there is room.
    Auto,
}

/// The two addresses of a node.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Ports {
    /// For clients.
    pub(crate) client: SocketAddr,
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

    /// Ports that are free now.
    ///
    /// # Errors
    /// [`Exit::Unavailable`] where they are not.
    pub(crate) fn find(self) -> Result<Ports, Failure> {
        match self {
            Base::At(base) => {
                let ports = Ports::from_base(base);
                ports.check().map_err(|(address, error)| taken(address, &error))?;
                Ok(ports)
            }
            Base::Auto => (0..TRIES)
                .filter_map(|_| free_port().map(Ports::from_base))
                .find(|ports| ports.check().is_ok())
                .ok_or_else(|| Exit::Unavailable.because("no free ports on 127.0.0.1")),
        }
    }
}

impl Ports {
    fn from_base(base: u16) -> Ports {
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Ports { client: at(base), admin: at(base.saturating_add(ADMIN)) }
    }

    fn check(&self) -> Result<(), (SocketAddr, std::io::Error)> {
        for address in [self.client, self.admin] {
            TcpListener::bind(address).map_err(|error| (address, error))?;
        }
        Ok(())
    }
}

fn free_port() -> Option<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).ok()?;
    listener.local_addr().ok().map(|address| address.port()).filter(|port| *port <= u16::MAX - ADMIN)
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
    fn a_taken_port_is_said_so() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let failure = Base::At(port).find().expect_err("taken");
        assert_eq!(failure.exit, Exit::Unavailable);
        assert!(failure.message.contains("--port"), "{failure}");
    }
}
