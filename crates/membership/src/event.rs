//! What the group tells its node.

use std::sync::OnceLock;

use lockstead_cluster::{Command, State};
use lockstead_types::{NodeId, Time, peer::Incarnation};
use parking_lot::Mutex;

/// News for the node, in the order of the log.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// This start of the node is in the log. Before this nothing else is told but `Fatal`; from here on every command is.
    Started {
        /// Which start it is.
        incarnation: Incarnation,
        /// The state, the start included.
        state: Box<State>,
    },
    /// The next command of the log, whether it was applied or refused.
    Committed(Command),
    /// The node was too far behind to be told each command: the state as it is now.
    Snapshot(Box<State>),
    /// A renewal of this start, sent at `sent` by `CLOCK_BOOTTIME`, was confirmed.
    Authority {
        /// When it was sent.
        sent: Time,
    },
    /// What should be on the disk may not be there, or this node and the group disagree: it must stop at once.
    Fatal(String),
}

/// Who hears of it.
pub(crate) type Handler = Box<dyn Fn(Event) + Send + Sync>;

/// Tells the node what happens, from its start on.
pub(crate) struct Feed {
    node: NodeId,
    /// Of this start, once it is drawn.
    nonce: OnceLock<u64>,
    handler: Handler,
    /// The start the node is in, once that is in the log.
    started: Mutex<Option<Incarnation>>,
}

impl Feed {
    pub(crate) fn new(node: NodeId, handler: Handler) -> Feed {
        Feed { node, nonce: OnceLock::new(), handler, started: Mutex::new(None) }
    }

    /// From now on this start is looked for. To be called once.
    pub(crate) fn begin(&self, nonce: u64) {
        let _ = self.nonce.set(nonce);
    }

    pub(crate) fn started(&self) -> Option<Incarnation> {
        *self.started.lock()
    }

    pub(crate) fn committed(&self, command: Command, state: &State) {
        if self.started().is_some() {
            (self.handler)(Event::Committed(command));
        } else {
            self.try_start(state);
        }
    }

    pub(crate) fn snapshot(&self, state: &State) {
        if self.started().is_some() {
            (self.handler)(Event::Snapshot(Box::new(state.clone())));
        } else {
            self.try_start(state);
        }
    }

    pub(crate) fn authority(&self, sent: Time) {
        (self.handler)(Event::Authority { sent });
    }

    pub(crate) fn fatal(&self, why: &str) {
        (self.handler)(Event::Fatal(why.into()));
    }

    fn try_start(&self, state: &State) {
        let own = state.members.get(&self.node).filter(|member| self.nonce.get() == Some(&member.nonce));
        if let Some(member) = own {
            *self.started.lock() = Some(member.incarnation);
            let (incarnation, state) = (member.incarnation, Box::new(state.clone()));
            (self.handler)(Event::Started { incarnation, state });
        }
    }
}
