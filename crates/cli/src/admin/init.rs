//! `lockstead cluster init`: how to start the first members, printed. It changes nothing.

use core::net::SocketAddr;
use std::path::PathBuf;

use crate::{
    exit::{Exit, Outcome},
    server,
};

/// Options of `lockstead cluster init`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where clients reach each of them, an address or a host name; other nodes reach it one port above. Three or five
    #[arg(required = true, value_name = "HOST:PORT", value_parser = place)]
    addresses: Vec<Place>,
    /// Where each keeps its data
    #[arg(long, value_name = "DIR", default_value = "/var/lib/lockstead")]
    data: PathBuf,
}

/// Prints the page.
pub(crate) fn run(args: &Args) -> Outcome {
    let seats: Vec<String> =
        args.addresses.iter().zip(1..).map(|(place, n): (_, u16)| format!("{n}={}", place.peer())).collect();
    let mut page = String::new();
    if args.addresses.len().is_multiple_of(2) {
        page.push_str("# An even number survives no more deaths than the odd one below it.\n");
    }
    for (place, number) in args.addresses.iter().zip(1_u16..) {
        let mut keys = vec![("node", number.to_string())];
        keys.extend(place.keys());
        keys.push(("seats", seats.join(",")));
        keys.push(("data", args.data.display().to_string()));
        if !place.is_loopback() {
            keys.push(("insecure_plaintext", "true".to_owned()));
        }
        let words = server::command_line("lockstead", &keys);
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        page.push_str(&format!("# node {number}\n{}\n", words.join(" ")));
    }
    let clients: Vec<String> = args.addresses.iter().map(Place::client).collect();
    page.push_str(&format!("# clients\nexport LOCKSTEAD_ENDPOINTS={}\n", clients.join(",")));
    crate::output::write_out(&page)?;
    Ok(Exit::Success)
}

/// Where clients reach a node, with a port above it for other nodes.
#[derive(Clone, Debug)]
enum Place {
    Address(SocketAddr),
    /// A name, which others look up; the node itself listens everywhere.
    Name(String, u16),
}

impl Place {
    fn client(&self) -> String {
        match self {
            Place::Address(address) => address.to_string(),
            Place::Name(host, port) => format!("{host}:{port}"),
        }
    }

    fn peer(&self) -> String {
        match self {
            Place::Address(address) => SocketAddr::new(address.ip(), address.port() + 1).to_string(),
            Place::Name(host, port) => format!("{host}:{}", port + 1),
        }
    }

    fn keys(&self) -> Vec<(&'static str, String)> {
        match self {
            Place::Address(_) => vec![("client_tcp", self.client()), ("peer_listen", self.peer())],
            Place::Name(_, port) => vec![
                ("client_tcp", format!("0.0.0.0:{port}")),
                ("client_address", self.client()),
                ("peer_listen", format!("0.0.0.0:{}", port + 1)),
                ("peer_address", self.peer()),
            ],
        }
    }

    fn is_loopback(&self) -> bool {
        matches!(self, Place::Address(address) if address.ip().is_loopback())
    }
}

/// An address or host name with a port that has one above it.
fn place(text: &str) -> Result<Place, String> {
    let place = match (text.parse(), text.rsplit_once(':')) {
        (Ok(address), _) => Place::Address(address),
        (_, Some((host, port))) if is_host(host) => {
            Place::Name(host.to_owned(), port.parse().map_err(|_| format!("{port:?} is no port"))?)
        }
        _ => return Err("write HOST:PORT, such as 10.0.0.1:7600 or db1.example:7600".to_owned()),
    };
    let port = match &place {
        Place::Address(address) => address.port(),
        Place::Name(_, port) => *port,
    };
    if port == 0 || port == u16::MAX { Err("there is no port above it for other nodes".to_owned()) } else { Ok(place) }
}

fn is_host(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
}
