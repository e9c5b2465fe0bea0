//! Configuration: what a server needs to start, checked ([`ServerConfig`]), and how it is written down ([`FileConfig`]:
//! a TOML file, overlaid by the environment, overlaid by flags).

mod cluster;
mod file;
mod limits;
mod spaces;

use core::{fmt, net::SocketAddr};
use std::path::PathBuf;

use lockstead_types::{Limits, Span, mode::ModeTableSpec, space::SpaceSpec};

pub use cluster::{ClusterConfig, DEFAULT_WEIGHT};
pub use file::{FileConfig, KEYS};
pub use limits::limit_keys;
pub use spaces::{LEVELS_MAX, LockspaceConfig, ModeConfig, ModeTableConfig};

/// What a server is started with.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The number of this node, from 1 on.
    pub node: u16,
    /// Where clients connect over TCP. Port 0 takes a free one ([`crate::Running::client_tcp`] says which).
    pub client_tcp: Option<SocketAddr>,
    /// Where clients of this host connect. The folder is created with mode 0700 where it is absent.
    pub client_unix: Option<PathBuf>,
    /// Where `/livez`, `/readyz` and `/metrics` are served.
    pub admin: Option<SocketAddr>,
    /// The data directory. Without one the server is ephemeral: its tokens and sessions do not outlive it.
    pub data: Option<PathBuf>,
    /// Event loops; 0 for one a core, at most 4.
    pub threads: usize,
    /// For how many microseconds an event loop that had work goes on looking for more before it sleeps; 0 for not at all.
    pub spin_us: u32,
    /// Whether plaintext may be spoken beyond loopback and Unix sockets.
    pub insecure_plaintext: bool,
    /// The epoch is raised to this at least. For a data directory that was restored from a copy: tokens of after the copy
    /// was made were given in later epochs than it knows of.
    pub epoch_min: u32,
    /// Bounds.
    pub limits: Limits,
    /// Mode tables of one's own, which lockspaces name like built-in ones.
    pub mode_tables: Vec<ModeTableSpec>,
    /// Lockspaces to create at the start where they do not exist; of a cluster, when it is formed.
    pub spaces: Vec<SpaceSpec>,
    /// How it takes part in a cluster; `None` for a node alone.
    pub cluster: Option<ClusterConfig>,
}

impl Default for ServerConfig {
    fn default() -> ServerConfig {
        ServerConfig {
            node: 1,
            client_tcp: None,
            client_unix: None,
            admin: None,
            data: None,
            threads: 0,
            spin_us: DEFAULT_SPIN_US,
            insecure_plaintext: false,
            epoch_min: 0,
            limits: Limits::default(),
            mode_tables: Vec::new(),
            spaces: Vec::new(),
            cluster: None,
        }
    }
}

/// See [`ServerConfig::spin_us`]: about two wake-ups of a sleeping core.
pub const DEFAULT_SPIN_US: u32 = 100;

impl ServerConfig {
    /// Refuses what cannot work or is not safe.
    ///
    /// # Errors
    /// [`ConfigError`] names the key.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.node == 0 {
            return Err(ConfigError::new("node", "nodes are numbered from 1"));
        }
        if self.client_tcp.is_none() && self.client_unix.is_none() {
            return Err(ConfigError::new(
                "client_tcp",
                "a server needs client_tcp or client_unix, or nobody can reach it",
            ));
        }
        if self.threads > 64 {
            return Err(ConfigError::new("threads", "at most 64"));
        }
        if self.spin_us > 10_000 {
            return Err(ConfigError::new("spin_us", "at most 10000"));
        }
        if let Some(cluster) = &self.cluster {
            cluster::check(cluster, self.node)?;
            if self.data.is_none() {
                return Err(ConfigError::new(
                    "data",
                    "a member of a cluster keeps what was agreed on: give it a directory",
                ));
            }
            if self.client_tcp.is_none() {
                return Err(ConfigError::new("client_tcp", "clients of other nodes must be able to come to this one"));
            }
        }
        let peers = self.cluster.as_ref().map(|cluster| cluster.peer_listen);
        for (key, address) in [("client_tcp", self.client_tcp), ("admin", self.admin), ("peer_listen", peers)] {
            if let Some(address) = address.filter(|a| !a.ip().is_loopback() && !self.insecure_plaintext) {
                let why = format!(
                    "{address} is not a loopback address, and what is said there could be read and changed on its way; \
                     listen on loopback, or allow it with insecure_plaintext"
                );
                return Err(ConfigError::new(key, why));
            }
        }
        limits::check_limits(&self.limits)?;
        spaces::check(&self.mode_tables, &self.spaces)
    }
}

/// A key of the configuration and what is wrong with its value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    /// The key.
    pub key: String,
    /// What is wrong.
    pub problem: String,
}

impl ConfigError {
    pub(crate) fn new(key: &str, problem: impl Into<String>) -> ConfigError {
        ConfigError { key: key.into(), problem: problem.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "configuration: {}: {}", self.key, self.problem)
    }
}

impl core::error::Error for ConfigError {}

/// A length of time as it is written: a whole number and one of `ns us ms s m h d`.
fn duration(key: &str, text: &str) -> Result<Span, ConfigError> {
    const UNITS: [(&str, u64); 7] = [
        ("ns", 1),
        ("us", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
        ("d", 86_400_000_000_000),
    ];
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let factor = UNITS.iter().find(|(name, _)| *name == unit.trim()).map(|(_, factor)| *factor);
    let nanos = digits.parse::<u64>().ok().zip(factor).and_then(|(n, factor)| n.checked_mul(factor));
    let wrong = || ConfigError::new(key, format!("{text:?} is no duration such as 500ms, 10s or 2h"));
    nanos.map(Span::from_nanos).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_exactly_or_refused() {
        assert_eq!(duration("k", "500ms"), Ok(Span::from_millis(500)));
        assert_eq!(duration("k", "2 h"), Ok(Span::from_secs(7_200)));
        assert_eq!(duration("k", "17ns"), Ok(Span::from_nanos(17)));
        for wrong in ["", "5", "ms", "-1s", "1.5s", "99999999999999999999s", "18446744073709551615d", "3 weeks"] {
            assert!(duration("k", wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_loopback_without_leave() {
        let open = |tcp: &str, admin: Option<&str>, leave| ServerConfig {
            client_tcp: Some(tcp.parse().expect("an address")),
            admin: admin.map(|a| a.parse().expect("an address")),
            insecure_plaintext: leave,
            ..ServerConfig::default()
        };
        assert_eq!(open("127.0.0.1:0", Some("[::1]:0"), false).check(), Ok(()));
        assert_eq!(open("0.0.0.0:0", None, false).check().expect_err("beyond loopback").key, "client_tcp");
        assert_eq!(open("127.0.0.1:0", Some("10.0.0.1:1"), false).check().expect_err("admin").key, "admin");
        assert_eq!(open("0.0.0.0:0", Some("[::]:0"), true).check(), Ok(()));
        assert!(ServerConfig::default().check().is_err(), "no listener");
    }
}
