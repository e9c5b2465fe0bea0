//! What this node has proposed and not seen applied yet. A proposal may get lost on its way, so it is made again until its
//! fate is known.

use alloc::{collections::BTreeMap, vec::Vec};

use lockstead_cluster::Command;
use lockstead_types::{RequestId, SessionId, Span, Time};

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
        for (command, again) in member.proposals.map.values_mut().filter(|(_, again)| *again <= now) {
            *again = now.after(AGAIN);
            self.outputs.push_back(Output::Propose(command.clone()));
        }
    }
}
