//! What this node has proposed and not seen applied yet. A proposal may get lost on its way, so it is made again until its
//! fate is known.

use alloc::{collections::BTreeMap, vec::Vec};

use lockstead_cluster::Command;
use lockstead_types::{RequestId, SessionId, Span, Time};

use super::Member;
use crate::{io::Output, node::Node};

/// After so long a proposal is made again.
const AGAIN: Span = Span::from_millis(1_000);

/// What a proposal is about: of each there is one at a time.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Subject {
    /// A session opens, comes here, or ends.
    Session(SessionId),
    /// A session's request about lockspaces.
    Request(u32, RequestId),
    /// Slots that go to who uses them.
    Attract,
    /// Slots that are used no more.
    Forsake,
    /// What is kept of a resource, by the number of the change.
    Keep(u64),
}

pub(crate) struct Proposals {
    map: BTreeMap<Subject, (Command, Time)>,
}

impl Proposals {
    pub(crate) fn new() -> Proposals {
        Proposals { map: BTreeMap::new() }
    }

    pub(crate) fn settled(&mut self, subject: Subject) -> Option<Command> {
        self.map.remove(&subject).map(|(command, _)| command)
    }

    /// Whether this is what was proposed about a subject.
    pub(crate) fn is(&self, subject: Subject, command: &Command) -> bool {
        self.map.get(&subject).is_some_and(|(proposed, _)| proposed == command)
    }

    /// Whether the end of a session is proposed.
    pub(crate) fn ends(&self, session: SessionId) -> bool {
        let proposed = self.map.get(&Subject::Session(session));
        proposed.is_some_and(|(command, _)| matches!(command, Command::EndSession { .. }))
    }

    pub(crate) fn subjects(&self) -> Vec<(Subject, Command)> {
        self.map.iter().map(|(subject, (command, _))| (*subject, command.clone())).collect()
    }

    pub(crate) fn next_timer(&self) -> Option<Time> {
        self.map.values().map(|(_, again)| *again).min()
    }
}

impl Node {
    /// Proposes a command, again and again until [`Proposals::settled`].
    pub(crate) fn propose(&mut self, now: Time, subject: Subject, command: Command) {
        let Some(member) = &mut self.member else { return };
        member.proposals.map.insert(subject, (command.clone(), now.after(AGAIN)));
        self.outputs.push_back(Output::Propose(command));
    }

    pub(crate) fn propose_again(&mut self, now: Time) {
        let Some(member) = &mut self.member else { return };
        let Member { proposals, arrivals, .. } = &mut **member;
        proposals.map.retain(|_, (command, again)| {
            if *again > now {
                return true;
            }
            // Nobody comes any more whose connection has gone: to take its session from where it is by now would only harm.
            if let Command::RehomeSession { session, .. } = command
                && arrivals.get(session).is_none_or(|arrival| self.conns.get(arrival.conn()).is_none())
            {
                arrivals.remove(session);
                return false;
            }
            *again = now.after(AGAIN);
            self.outputs.push_back(Output::Propose(command.clone()));
            true
        });
    }
}
