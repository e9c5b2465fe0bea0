//! The thread that connects to other nodes. A connection that is there becomes a link of an event loop; this thread only makes
//! it, because name lookups and connecting take their time.

use core::time::Duration;
use std::{
    collections::HashMap,
    io::{self, Write as _},
    os::fd::OwnedFd,
    sync::Arc,
    thread,
    time::Instant,
};

use lockstead_types::NodeId;
use lockstead_wire::LINK_MAGIC;

use super::{Cluster, who};
use crate::net::{
    conn::{Accepted, Origin},
    listener::tune,
};

/// How long connecting may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// After a try the next one waits so long, twice as long after each that follows without a link in between.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Looks at what the node wants come at least so often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Connections that are being made at once.
const AT_ONCE: usize = 16;

/// A node that is wanted.
#[derive(Debug)]
struct Wanted {
    next: Instant,
    pause: Duration,
    dialing: Option<thread::JoinHandle<()>>,
}

/// Runs until the cluster's part of the server is stopped.
pub(crate) fn run(cluster: &Arc<Cluster>) {
    let mut known: HashMap<NodeId, Wanted> = HashMap::new();
    while !cluster.is_stopped() {
        let wanted = cluster.server().map(|server| server.core.lock().node.peers_wanted()).unwrap_or_default();
        known.retain(|node, known| known.is_dialing() || wanted.iter().any(|(wanted, _)| wanted == node));
        let now = Instant::now();
        for (node, address) in wanted {
            let dialing = known.values().filter(|known| known.is_dialing()).count();
            let one = known.entry(node).or_insert(Wanted { next: now, pause: PAUSE_MIN, dialing: None });
            if one.is_dialing() || one.next > now || dialing >= AT_ONCE {
                continue;
            }
            one.next = now + one.pause;
            one.pause = (one.pause * 2).min(PAUSE_MAX);
            let cluster = Arc::clone(cluster);
            let dial = move || match dial(&address) {
                Ok(fd) => cluster.adopt(Accepted { fd, origin: Origin::Peer { dialed: Some(node) } }),
                Err(error) => tracing::debug!("node {} at {address} cannot be reached: {error}", node.0),
            };
            one.dialing = thread::Builder::new().name("dial".into()).spawn(dial).ok();
        }
        let next = known.values().map(|known| known.next.saturating_duration_since(now)).min();
        cluster.wait_for_bell(next.map_or(LOOK_EVERY, |next| next.clamp(PAUSE_MIN, LOOK_EVERY)));
    }
}

impl Wanted {
    fn is_dialing(&self) -> bool {
        self.dialing.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

fn dial(address: &str) -> io::Result<OwnedFd> {
    let mut stream = who::connect(address, CONNECT_WITHIN)?;
    stream.set_write_timeout(Some(CONNECT_WITHIN))?;
    stream.write_all(&LINK_MAGIC)?;
    stream.set_nonblocking(true)?;
    let fd = OwnedFd::from(stream);
    tune(&fd)?;
    Ok(fd)
}
