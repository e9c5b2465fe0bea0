//! What the group tells its node.

use std::sync::OnceLock;

use lockstead_cluster::{Command, State};
use lockstead_types::{NodeId, Time, peer::Incarnation};
use parking_lot::Mutex;
use tokio::sync::Notify;

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
    /// This start of the node came to it in a snapshot: more was agreed on since, and the node cannot be told what. Its process
    /// starts anew.
    Overtaken,
    /// The next command of the log, whether it was applied or refused.
    Committed(Command),
    /// The node was too far behind to be told each command: the state as it is now.
    Snapshot(Box<State>),
    /// A renewal of this start, sent at `sent` by `CLOCK_BOOTTIME`, was confirmed.
    Authority {
        /// When it was sent.
        sent: Time,
        /// The member that leads, and confirmed it.
        leader: NodeId,
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
    /// What is agreed on has changed, before the node has started.
    pub(crate) changed: Notify,
}

impl Feed {
    pub(crate) fn new(node: NodeId, handler: Handler) -> Feed {
        Feed { node, nonce: OnceLock::new(), handler, started: Mutex::new(None), changed: Notify::new() }
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
            return (self.handler)(Event::Committed(command));
        }
        if let Some(incarnation) = self.own_start(state) {
            *self.started.lock() = Some(incarnation);
            (self.handler)(Event::Started { incarnation, state: Box::new(state.clone()) });
        }
        self.changed.notify_one();
    }

    pub(crate) fn snapshot(&self, state: &State) {
        if self.started().is_some() {
            return (self.handler)(Event::Snapshot(Box::new(state.clone())));
        }
        if self.own_start(state).is_some() {
            // Had it slots since that start, others have reported what is held there, each under its own epoch: taken for what the
            // newest epoch brought, such a report would be dropped, and the locks in it given to others.
            (self.handler)(Event::Overtaken);
        }
        self.changed.notify_one();
    }

    pub(crate) fn authority(&self, sent: Time, leader: NodeId) {
        (self.handler)(Event::Authority { sent, leader });
    }

    pub(crate) fn fatal(&self, why: &str) {
        (self.handler)(Event::Fatal(why.into()));
    }

    fn own_start(&self, state: &State) -> Option<Incarnation> {
        let own = state.members.get(&self.node).filter(|member| self.nonce.get() == Some(&member.nonce));
        own.map(|member| member.incarnation)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lockstead_cluster::Seat;

    use super::*;

    fn heard() -> (Feed, Arc<Mutex<Vec<Event>>>, State, Command) {
        let events = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&events);
        let feed = Feed::new(NodeId(1), Box::new(move |event| told.lock().push(event)));
        feed.begin(7);
        let mut state = State::default();
        let seat =
            Seat { node: NodeId(1), identity: 5, peer_address: "a:1".into(), client_address: "a:2".into(), weight: 1 };
        let form = Command::Form { seed: 1, key: [1; 32], seats: vec![seat], spaces: Vec::new() };
        state.apply(&form).expect("formed");
        let start = Command::Start {
            node: NodeId(1),
            identity: 5,
            nonce: 7,
            after: 0,
            peer_address: "a:1".into(),
            client_address: "a:2".into(),
        };
        (feed, events, state, start)
    }

    #[test]
    fn a_start_is_told_with_the_state_it_made() {
        let (feed, events, mut state, start) = heard();
        state.apply(&start).expect("started");
        feed.committed(start, &state);
        let made = Event::Started { incarnation: Incarnation(1), state: Box::new(state) };
        assert_eq!(*events.lock(), [made]);
    }

    #[test]
    fn a_start_that_came_in_a_snapshot_is_overtaken() {
        let (feed, events, mut state, start) = heard();
        feed.snapshot(&state);
        assert_eq!(*events.lock(), [], "of before the start");
        state.apply(&start).expect("started");
        feed.snapshot(&state);
        assert_eq!(*events.lock(), [Event::Overtaken]);
        assert_eq!(feed.started(), None, "nor is it renewed");
    }
}
