//! What will happen, by true time; of two things at one time, what was planned first.

use core::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::operator::Deed;

/// Something to come.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Event {
    /// What has come over a connection in one direction reaches its end.
    Deliver { conn: u32, side: u8 },
    /// A connection breaks for one side, which is told.
    Broken { conn: u32, side: u8 },
    /// A node's deadline.
    WakeNode { node: u8, life: u32 },
    /// A client's deadline.
    WakeClient { client: u8, life: u32 },
    /// An attempt of a client to connect is through, or has failed.
    Connect { client: u8, attempt: u32, node: u8 },
    /// A client program does something.
    Work { client: u8, life: u32 },
    /// A client program starts, again.
    StartClient { client: u8, life: u32 },
    /// A guarded operation reaches the resource.
    Guarded { number: u32 },
    /// An operator does something, or tries again; the process of the node is still the same.
    Operator { deed: Deed, node: u8, life: u32 },
    /// A node's process ends.
    EndNode { node: u8, life: u32 },
    /// A node's process starts.
    StartNode { node: u8, life: u32 },
    /// The disk has what was written to it.
    Synced { node: u8, life: u32 },
    /// A fault strikes, if it is still time for faults.
    Fault { kind: u8 },
    /// A look at everything.
    Audit,
    /// Something of the membership group.
    Group(GroupEvent),
}

/// What happens in the membership group, and between it and its nodes.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum GroupEvent {
    /// A proposal has come as far as the leader.
    Proposed { number: u32 },
    /// A quorum has it.
    Commit { number: u32 },
    /// A node learns of what was committed.
    Apply { node: u8, life: u32 },
    /// A node asks for its authority.
    Renew { node: u8, life: u32 },
    /// It reaches the leader.
    Receive { node: u8, life: u32, sent: u64 },
    /// A quorum has told the leader that it leads.
    Round { node: u8, life: u32, sent: u64, received: u64, term: u32 },
    /// The node hears of it, and has heard all that was agreed on when it was confirmed.
    Authority { node: u8, life: u32, until: u64, agreed: usize },
    /// The leader looks at what is to be done, or a leader is looked for.
    Lead,
    /// Nodes look whom to connect to.
    Dial { node: u8, life: u32 },
    /// A connection between two nodes stands, or not.
    Dialed { from: u8, to: u8, life: u32 },
    /// A node proposes its start, until it has started.
    Join { node: u8, life: u32 },
}

/// The queue.
#[derive(Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Planned>,
    planned: u64,
    /// What is planned, by place, and places that are free: a heap moves what is in it about.
    events: Vec<Event>,
    free: Vec<u32>,
}

/// The greatest of a heap is what comes first. No two have the same number.
struct Planned {
    at: u64,
    number: u64,
    place: u32,
}

impl Ord for Planned {
    fn cmp(&self, other: &Planned) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Planned) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Planned {
    fn eq(&self, other: &Planned) -> bool {
        self.number == other.number
    }
}

impl Eq for Planned {}

impl Queue {
    pub(crate) fn push(&mut self, at: u64, event: Event) {
        self.planned += 1;
        let place = match self.free.pop() {
            Some(place) => {
                self.events[place as usize] = event;
                place
            }
            None => {
                self.events.push(event);
                self.events.len() as u32 - 1
            }
        };
        self.heap.push(Planned { at, number: self.planned, place });
    }

    pub(crate) fn pop(&mut self) -> Option<(u64, Event)> {
        let Planned { at, place, .. } = self.heap.pop()?;
        self.free.push(place);
        Some((at, self.events[place as usize]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_planned_first_comes_first() {
        let mut queue = Queue::default();
        queue.push(5, Event::Audit);
        queue.push(3, Event::Guarded { number: 1 });
        queue.push(3, Event::Fault { kind: 0 });
        assert_eq!(queue.pop(), Some((3, Event::Guarded { number: 1 })));
        assert_eq!(queue.pop(), Some((3, Event::Fault { kind: 0 })));
        assert_eq!(queue.pop(), Some((5, Event::Audit)));
        assert_eq!(queue.pop(), None);
    }
}
