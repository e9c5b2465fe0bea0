//! The written form of the configuration. Every key is optional, so that a file, the environment and flags have one type
//! and are laid over each other.

use core::net::SocketAddr;
use std::{collections::BTreeMap, path::PathBuf};

use lockstead_types::Limits;
use serde::Deserialize;

use super::{
    ConfigError, DEFAULT_SPIN_US, LockspaceConfig, ModeTableConfig, ServerConfig,
    cluster::Written,
    limit_keys,
    limits::set_limit,
    spaces::{lockspaces, mode_tables},
};

/// The keys that are single values, with what they say: for flags and for `LOCKSTEAD_<KEY>` in the environment. Limits come
/// beside them, as `limit_<NAME>` ([`limit_keys`]).
pub const KEYS: &[(&str, &str)] = &[
    ("node", "number of this node, from 1 on (default 1)"),
    ("client_tcp", "address and port for clients, such as 127.0.0.1:7600"),
    ("client_unix", "path of the Unix socket for clients of this host"),
    ("admin", "address and port of /livez, /readyz and /metrics"),
    ("data", "data directory; without one tokens and sessions do not outlive the server"),
    ("threads", "event loops (default 0: one a core, at most 4)"),
    ("spin_us", "microseconds an event loop looks for more work before it sleeps (default 100)"),
    ("insecure_plaintext", "true allows listening beyond loopback without encryption"),
    (
        "peer_listen",
        "address and port for other nodes, by custom the client port + 1; makes this node a member of a cluster",
    ),
    ("peer_address", "HOST:PORT that other nodes are told, where it is not peer_listen"),
    ("client_address", "HOST:PORT that clients are told, where it is not client_tcp"),
    (
        "seats",
        "the first members, NODE=HOST:PORT of each peer port, comma-separated, the same at each; none for a node that joins later",
    ),
    (
        "weight",
        "share of the slots against other nodes (default 100); 0 for a witness, which votes and masters nothing",
    ),
    ("epoch_min", "raise the epoch to this at least, after restoring a data directory from a copy"),
];

/// A configuration as written, in which any key may be absent.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// See [`ServerConfig::node`].
    pub node: Option<u16>,
    /// See [`ServerConfig::client_tcp`].
    pub client_tcp: Option<SocketAddr>,
    /// See [`ServerConfig::client_unix`].
    pub client_unix: Option<PathBuf>,
    /// See [`ServerConfig::admin`].
    pub admin: Option<SocketAddr>,
    /// See [`ServerConfig::data`].
    pub data: Option<PathBuf>,
    /// See [`ServerConfig::threads`].
    pub threads: Option<usize>,
    /// See [`ServerConfig::spin_us`].
    pub spin_us: Option<u32>,
    /// See [`ServerConfig::insecure_plaintext`].
    pub insecure_plaintext: Option<bool>,
    /// See [`ServerConfig::epoch_min`].
    pub epoch_min: Option<u32>,
    /// See [`super::ClusterConfig::peer_listen`].
    pub peer_listen: Option<SocketAddr>,
    /// See [`super::ClusterConfig::peer_address`].
    pub peer_address: Option<String>,
    /// See [`super::ClusterConfig::client_address`].
    pub client_address: Option<String>,
    /// See [`super::ClusterConfig::seats`].
    pub seats: Option<String>,
    /// See [`super::ClusterConfig::weight`].
    pub weight: Option<u32>,
    /// Limits by name: whole numbers, and durations for `ttl_min`, `ttl_max` and `deadlock_delay`.
    #[serde(default)]
    pub limits: BTreeMap<String, LimitValue>,
    /// Mode tables of one's own.
    #[serde(default)]
    pub mode_table: Vec<ModeTableConfig>,
    /// Lockspaces to create.
    #[serde(default)]
    pub lockspace: Vec<LockspaceConfig>,
}

/// The value of a limit.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(untagged)]
pub enum LimitValue {
    /// A count.
    Number(u64),
    /// A duration such as `10s`, or a count as text.
    Text(String),
}

impl FileConfig {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// [`ConfigError`] with line and column, and the unknown key or wrong value.
    pub fn parse(text: &str) -> Result<FileConfig, ConfigError> {
        toml::from_str(text).map_err(|error| ConfigError::new("file", error.to_string().trim_end()))
    }

    /// What the environment says: `LOCKSTEAD_CLIENT_TCP`, `LOCKSTEAD_LIMIT_TTL_MAX` and so on, looked up by `get`.
    ///
    /// # Errors
    /// [`ConfigError`] for a value that does not fit its key.
    pub fn from_env(get: impl Fn(&str) -> Option<String>) -> Result<FileConfig, ConfigError> {
        let mut config = FileConfig::default();
        let limits = limit_keys().into_iter().map(|limit| format!("limit_{limit}"));
        for key in KEYS.iter().map(|(key, _)| (*key).to_owned()).chain(limits) {
            if let Some(text) = get(&format!("LOCKSTEAD_{}", key.to_ascii_uppercase())) {
                config.set(&key, &text)?;
            }
        }
        Ok(config)
    }

    /// Sets one key of [`KEYS`], or `limit_<NAME>`, from text.
    ///
    /// # Errors
    /// [`ConfigError`] for a key that is none, or a value that does not fit it.
    pub fn set(&mut self, key: &str, text: &str) -> Result<(), ConfigError> {
        fn read<T: core::str::FromStr>(key: &str, text: &str, what: &str) -> Result<Option<T>, ConfigError> {
            text.parse().map(Some).map_err(|_| ConfigError::new(key, format!("{text:?} is not {what}")))
        }
        match key {
            "node" => self.node = read(key, text, "a number from 1 to 65535")?,
            "client_tcp" => self.client_tcp = read(key, text, "an address with a port, such as 127.0.0.1:7600")?,
            "client_unix" => self.client_unix = Some(PathBuf::from(text)),
            "admin" => self.admin = read(key, text, "an address with a port, such as 127.0.0.1:7602")?,
            "data" => self.data = Some(PathBuf::from(text)),
            "threads" => self.threads = read(key, text, "a whole number")?,
            "spin_us" => self.spin_us = read(key, text, "a whole number")?,
            "insecure_plaintext" => self.insecure_plaintext = read(key, text, "true or false")?,
            "peer_listen" => self.peer_listen = read(key, text, "an address with a port, such as 127.0.0.1:7601")?,
            "peer_address" => self.peer_address = Some(text.to_owned()),
            "client_address" => self.client_address = Some(text.to_owned()),
            "seats" => self.seats = Some(text.to_owned()),
            "weight" => self.weight = read(key, text, "a whole number")?,
            "epoch_min" => self.epoch_min = read(key, text, "a whole number")?,
            _ => {
                let limit = key.strip_prefix("limit_");
                let limit = limit.ok_or_else(|| ConfigError::new(key, "there is no such key"))?;
                set_limit(&mut Limits::default(), limit, text)?;
                self.limits.insert(limit.to_owned(), LimitValue::Text(text.to_owned()));
            }
        }
        Ok(())
    }

    /// This configuration with every key that `over` has taken from `over`. Limits go one by one; mode tables and
    /// lockspaces of both are kept.
    #[must_use]
    pub fn overlaid(mut self, over: FileConfig) -> FileConfig {
        self.limits.extend(over.limits);
        self.mode_table.extend(over.mode_table);
        self.lockspace.extend(over.lockspace);
        FileConfig {
            node: over.node.or(self.node),
            client_tcp: over.client_tcp.or(self.client_tcp),
            client_unix: over.client_unix.or(self.client_unix),
            admin: over.admin.or(self.admin),
            data: over.data.or(self.data),
            threads: over.threads.or(self.threads),
            spin_us: over.spin_us.or(self.spin_us),
            insecure_plaintext: over.insecure_plaintext.or(self.insecure_plaintext),
            epoch_min: over.epoch_min.or(self.epoch_min),
            peer_listen: over.peer_listen.or(self.peer_listen),
            peer_address: over.peer_address.or(self.peer_address),
            client_address: over.client_address.or(self.client_address),
            seats: over.seats.or(self.seats),
            weight: over.weight.or(self.weight),
            limits: self.limits,
            mode_table: self.mode_table,
            lockspace: self.lockspace,
        }
    }

    /// The configuration this comes to, with defaults for what is absent.
    ///
    /// # Errors
    /// [`ConfigError`] names the key and what is wrong, as [`ServerConfig::check`] does.
    pub fn check(self) -> Result<ServerConfig, ConfigError> {
        let mut limits = Limits::default();
        for (name, value) in &self.limits {
            match value {
                LimitValue::Number(n) => set_limit(&mut limits, name, &n.to_string())?,
                LimitValue::Text(text) => set_limit(&mut limits, name, text)?,
            }
        }
        let mode_tables = mode_tables(&self.mode_table)?;
        let cluster = Written {
            peer_listen: self.peer_listen,
            peer_address: self.peer_address,
            client_address: self.client_address,
            seats: self.seats,
            weight: self.weight,
        };
        let config = ServerConfig {
            node: self.node.unwrap_or(1),
            client_tcp: self.client_tcp,
            client_unix: self.client_unix,
            admin: self.admin,
            data: self.data,
            threads: self.threads.unwrap_or(0),
            spin_us: self.spin_us.unwrap_or(DEFAULT_SPIN_US),
            insecure_plaintext: self.insecure_plaintext.unwrap_or(false),
            epoch_min: self.epoch_min.unwrap_or(0),
            limits,
            spaces: lockspaces(&self.lockspace, &mode_tables)?,
            mode_tables,
            cluster: cluster.check()?,
        };
        config.check()?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockstead_types::{
        Span,
        space::{DeadlockPolicy, ModeChoice, QueuePolicy, VictimPolicy},
    };

    const FULL: &str = r#"
node = 3
client_tcp = "127.0.0.1:7600"
client_unix = "/run/lockstead/7600.sock"
admin = "[::1]:7602"
data = "/var/lib/lockstead"
threads = 2
spin_us = 0
insecure_plaintext = false
epoch_min = 9

[limits]
name_bytes = 200
ttl_min = "1s"

[[mode_table]]
name = "traffic"
relation = ["++", "+-"]
shortcuts = { shared = "GO", update = "STOP", exclusive = "STOP" }
modes = [{ name = "GO", aliases = ["G"] }, { name = "STOP", writes = true }]

[[lockspace]]
name = "crossing"
modes = "traffic"
policy = "fair"
overtakes = 3
ageing = "20ms"
deadlock = "no-wait"
victim = "youngest"
value_bytes = 100
"#;

    #[test]
    fn a_full_file_is_read() {
        let config = FileConfig::parse(FULL).and_then(FileConfig::check).expect("sound");
        assert_eq!((config.node, config.threads, config.spin_us, config.epoch_min), (3, 2, 0, 9));
        assert_eq!((config.limits.name_bytes, config.limits.ttl_min), (200, Span::from_secs(1)));
        let space = &config.spaces[0];
        assert_eq!(space.policy, QueuePolicy::Fair { overtakes: 3, ageing: Span::from_millis(20) });
        assert_eq!((space.deadlock, space.victim), (DeadlockPolicy::NoWait, VictimPolicy::Youngest));
        assert!(matches!(&space.modes, ModeChoice::Custom(t) if t.name == "traffic" && t.modes[1].writes));
    }

    #[test]
    fn mistakes_are_named() {
        let wrong = |text: &str| FileConfig::parse(text).and_then(FileConfig::check).expect_err(text).to_string();
        assert!(wrong("thread = 3").contains("thread"), "{}", wrong("thread = 3"));
        assert!(wrong("node = 70000").contains("node"));
        assert!(wrong("client_tcp = \"localhost\"").contains("client_tcp"));
        let listen = "client_tcp = \"127.0.0.1:0\"\n";
        assert!(wrong(&format!("{listen}[limits]\nlockz = 3")).contains("limits.lockz"));
        assert!(wrong(&format!("{listen}[limits]\nttl_min = 3")).contains("limits.ttl_min"));
        assert!(wrong(&format!("{listen}[[lockspace]]\nname = \"a\"\nmodes = \"b\"")).contains("lockspace.a.modes"));
        assert!(
            wrong(&format!("{listen}[[lockspace]]\nname = \"a\"\novertakes = 2")).contains("lockspace.a.overtakes")
        );
        let rows = wrong(&FULL.replace("\"++\", ", ""));
        assert!(rows.contains("mode_table.traffic") && rows.contains("2 modes, not 1"), "{rows}");
        let second = wrong(&FULL.replace("\"+-\"", "\"+\""));
        assert!(second.contains("row 2 of the relation"), "people count rows from 1: {second}");
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let env = |name: &str| match name {
            "LOCKSTEAD_NODE" => Some("4".to_owned()),
            "LOCKSTEAD_THREADS" => Some("5".to_owned()),
            "LOCKSTEAD_LIMIT_TTL_MAX" => Some("2h".to_owned()),
            _ => None,
        };
        let mut flags = FileConfig::default();
        flags.set("threads", "6").expect("a key");
        flags.set("limit_locks", "1_000").expect("a limit");
        assert!(flags.set("limit_locks", "x").is_err());
        assert!(flags.set("colour", "red").is_err());
        let file = FileConfig::parse(FULL).expect("sound");
        let config = file.overlaid(FileConfig::from_env(env).expect("sound")).overlaid(flags).check().expect("sound");
        assert_eq!((config.node, config.threads, config.spin_us), (4, 6, 0));
        assert_eq!(config.limits.ttl_max, Span::from_secs(7_200));
        assert_eq!((config.limits.locks, config.limits.name_bytes), (1_000, 200));
    }
}
