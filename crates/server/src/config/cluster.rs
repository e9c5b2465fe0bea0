//! What makes a node a member of a cluster.

use core::net::SocketAddr;

use super::ConfigError;

/// How a node takes part in a cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterConfig {
    /// Where other nodes connect.
    pub peer_listen: SocketAddr,
    /// What other nodes are told to connect to; `None` for `peer_listen`.
    pub peer_address: Option<String>,
    /// What clients are told to connect to; `None` for the address clients are listened for.
    pub client_address: Option<String>,
    /// The first members with their peer addresses, the same at each of them. Together they form the cluster once; later they
    /// are only looked at by a node that has lost its data, to find out that it may not. Empty for a node that joins a
    /// cluster that exists.
    pub seats: Vec<(u16, String)>,
    /// Its share of the slots against others; 0 for a witness, which votes and masters nothing.
    pub weight: u32,
}

/// The weight of a node that says none.
pub const DEFAULT_WEIGHT: u32 = 100;
/// The largest weight.
const WEIGHT_MAX: u32 = 1_000;
/// Bytes of an address.
const ADDRESS_BYTES: usize = 256;

/// The keys as written.
#[derive(Clone, Debug, Default)]
pub(super) struct Written {
    pub(super) peer_listen: Option<SocketAddr>,
    pub(super) peer_address: Option<String>,
    pub(super) client_address: Option<String>,
    pub(super) seats: Option<String>,
    pub(super) weight: Option<u32>,
}

impl Written {
    /// What they come to; `None` for a node alone.
    pub(super) fn check(self) -> Result<Option<ClusterConfig>, ConfigError> {
        let Written { peer_listen, peer_address, client_address, seats, weight } = self;
        let Some(peer_listen) = peer_listen else {
            let given = [
                ("peer_address", peer_address.is_some()),
                ("client_address", client_address.is_some()),
                ("seats", seats.is_some()),
                ("weight", weight.is_some()),
            ];
            return match given.iter().find(|(_, given)| *given) {
                None => Ok(None),
                Some((key, _)) => Err(ConfigError::new(key, "means something only in a cluster: give peer_listen too")),
            };
        };
        let seats = seats.map(|text| parse_seats(&text)).transpose()?.unwrap_or_default();
        let weight = weight.unwrap_or(DEFAULT_WEIGHT);
        Ok(Some(ClusterConfig { peer_listen, peer_address, client_address, seats, weight }))
    }
}

/// Seats as written: `1=127.0.0.1:7601,2=127.0.0.1:7611`.
fn parse_seats(text: &str) -> Result<Vec<(u16, String)>, ConfigError> {
    let seat = |part: &str| {
        let (node, address) = part.trim().split_once('=')?;
        let node = node.trim().parse().ok().filter(|node| *node > 0)?;
        is_address(address.trim()).then(|| (node, address.trim().to_owned()))
    };
    let wrong = |part: &str| {
        ConfigError::new(
            "seats",
            format!("{part:?} is no NODE=HOST:PORT; seats look like 1=10.0.0.1:7601,2=10.0.0.2:7601"),
        )
    };
    text.split(',').map(|part| seat(part).ok_or_else(|| wrong(part))).collect()
}

fn is_address(text: &str) -> bool {
    let port =
        text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, port)| port.parse::<u16>().ok());
    text.len() <= ADDRESS_BYTES && port.is_some_and(|port| port > 0)
}

/// Refuses what cannot work.
pub(super) fn check(cluster: &ClusterConfig, node: u16) -> Result<(), ConfigError> {
    for (key, address) in [("peer_address", &cluster.peer_address), ("client_address", &cluster.client_address)] {
        if let Some(address) = address.as_ref().filter(|address| !is_address(address)) {
            return Err(ConfigError::new(key, format!("{address:?} is no HOST:PORT")));
        }
    }
    if cluster.weight > WEIGHT_MAX {
        return Err(ConfigError::new("weight", format!("at most {WEIGHT_MAX}")));
    }
    let mut nodes: Vec<u16> = cluster.seats.iter().map(|(node, _)| *node).collect();
    nodes.sort_unstable();
    if nodes.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(ConfigError::new("seats", "a node is there twice"));
    }
    if !nodes.is_empty() && !nodes.contains(&node) {
        return Err(ConfigError::new(
            "seats",
            format!("node {node} is not among them; a node that joins a cluster later is given no seats"),
        ));
    }
    if cluster.peer_listen.port() == 0 && cluster.peer_address.is_none() && !cluster.seats.is_empty() {
        return Err(ConfigError::new("peer_listen", "other nodes must know the port: choose one"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_read_or_named() {
        let seats = parse_seats("1=127.0.0.1:7601, 2=db2.example:7601").expect("sound");
        assert_eq!(seats, [(1, "127.0.0.1:7601".to_owned()), (2, "db2.example:7601".to_owned())]);
        for wrong in ["", "1", "1=", "0=a:1", "1=a", "1=a:0", "x=a:1", "1=a:1,,2=b:2", "1=:7"] {
            assert_eq!(parse_seats(wrong).expect_err(wrong).key, "seats");
        }
    }

    #[test]
    fn keys_of_a_cluster_need_a_peer_port() {
        let alone = Written { weight: Some(1), ..Written::default() };
        assert_eq!(alone.check().expect_err("no port").key, "weight");
        assert_eq!(Written::default().check(), Ok(None));
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let listen = "127.0.0.1:7601".parse().expect("an address");
        let sound = ClusterConfig {
            peer_listen: listen,
            peer_address: None,
            client_address: None,
            seats: parse_seats("1=a:1,2=b:1").expect("sound"),
            weight: 0,
        };
        assert_eq!(check(&sound, 2), Ok(()));
        assert!(check(&sound, 3).is_err(), "not among the seats");
        let twice = ClusterConfig { seats: parse_seats("1=a:1,1=b:1").expect("sound"), ..sound.clone() };
        assert!(check(&twice, 1).is_err());
        assert!(check(&ClusterConfig { weight: 1_001, ..sound.clone() }, 1).is_err());
        assert!(check(&ClusterConfig { peer_address: Some("x".into()), ..sound }, 1).is_err());
    }
}
