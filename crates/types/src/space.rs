//! How a lockspace is set up.

use alloc::{boxed::Box, string::String};

use crate::{extent::resource_of, hierarchy::Hierarchy, mode::ModeTableSpec, time::Span, transaction::Discipline};

/// What a lockspace is created with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SpaceSpec {
    /// Its name: 1 to 64 bytes.
    pub name: String,
    /// Its modes.
    pub modes: ModeChoice,
    /// How queues are served.
    pub policy: QueuePolicy,
    /// What is done about deadlocks.
    pub deadlock: DeadlockPolicy,
    /// Who dies in a cycle.
    pub victim: VictimPolicy,
    /// Bytes of its value blocks; 0 for the node's default, at most [`crate::limits::VALUE_BYTES_CEILING`].
    pub value_bytes: u32,
    /// By how many of its first components, which end at `/`, a name finds its slot, so that a tree stays on one master; 0 for the
    /// whole name. Of no account at a node alone.
    pub levels: u8,
    /// Whether a name can be of a part of a resource, a range or a predicate ([`crate::extent`], [RANGE-1]).
    pub extents: bool,
    /// Where slots with its names go.
    pub mastering: Mastering,
    /// Whether value blocks outlive every holder and every node. Of a cluster only.
    pub persistent: bool,
    /// What is demanded of transactions.
    pub discipline: Discipline,
    /// How its resources lie above one another; `None` where each stands for itself.
    pub hierarchy: Option<Box<Hierarchy>>,
}

impl SpaceSpec {
    /// A lockspace with `vms` modes and default policies.
    #[must_use]
    pub fn named(name: &str) -> SpaceSpec {
        SpaceSpec {
            name: name.into(),
            modes: ModeChoice::BuiltIn("vms".into()),
            policy: QueuePolicy::Vms,
            deadlock: DeadlockPolicy::Detect,
            victim: VictimPolicy::Requester,
            value_bytes: 0,
            levels: 0,
            extents: false,
            mastering: Mastering::Spread,
            persistent: false,
            discipline: Discipline::Strict,
            hierarchy: None,
        }
    }
}

/// The part of a name by which it finds its slot. `extents`: of a lockspace in which a name can be of a part of a resource, all of
/// which have the resource's slot.
#[must_use]
pub fn slot_key(name: &[u8], levels: u8, extents: bool) -> &[u8] {
    let name = if extents { resource_of(name) } else { name };
    // [SLOT-9]
    let mut ends = name.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    let end = usize::from(levels).checked_sub(1).and_then(|before| ends.nth(before));
    end.and_then(|end| name.get(..end)).unwrap_or(name)
}

/// Which node masters the slots with a lockspace's names.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
#[repr(u8)]
pub enum Mastering {
    /// Any: slots are spread evenly.
    #[default]
    Spread,
    /// The one whose sessions ask for them more often than all others' together ([MEMBER-11]).
    Affinity,
}

/// Built-in modes or one's own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ModeChoice {
    /// A table of [`crate::tables`] by name.
    BuiltIn(String),
    /// A table of one's own.
    Custom(ModeTableSpec),
}

/// How the queues of a lockspace are served.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum QueuePolicy {
    /// The rules of VMS and `fs/dlm`: a compatible conversion is granted in place however many wait, so a writer can
    /// starve ([CONV-1]).
    Vms,
    /// Bounded overtaking: no request or conversion that waits is passed by more than `overtakes` grants that came
    /// after it ([FAIR-1]). Waiting requests are ordered by priority with ageing: a request of priority `p` stands as if
    /// it had come `p * ageing` earlier ([FAIR-3]).
    Fair {
        /// Grants that may pass one that waits.
        overtakes: u16,
        /// How much waiting one step of priority is worth.
        ageing: Span,
    },
}

impl QueuePolicy {
    /// `fair` with its default bound of 8 overtakes and 1 s a priority step.
    pub const FAIR: QueuePolicy = QueuePolicy::Fair { overtakes: 8, ageing: Span::from_secs(1) };
}

/// What is done about deadlocks over several resources.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum DeadlockPolicy {
    /// Cycles are searched when a request begins to wait, and broken.
    Detect,
    /// Nothing is searched; waits end by their own deadline.
    Timeout,
    /// A request that would wait is refused.
    NoWait,
    /// A transaction waits for younger ones only, and is aborted where it would wait for an older one ([PREVENT-1]).
    WaitDie,
    /// A transaction waits for older ones only, and aborts the younger ones it would wait for ([PREVENT-2]).
    WoundWait,
}

impl DeadlockPolicy {
    /// Whether the ages of transactions say who may wait for whom, so that no cycle comes to be.
    #[must_use]
    pub const fn prevents(self) -> bool {
        matches!(self, DeadlockPolicy::WaitDie | DeadlockPolicy::WoundWait)
    }
}

/// Which request of a cycle is refused.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum VictimPolicy {
    /// The one whose waiting closed the cycle; where transactions are in it the youngest.
    Requester,
    /// The one whose transaction is the youngest, and before all those the one that began to wait last without a transaction; where there are
    /// none, equal to `Requester` for cycles that close at once.
    Youngest,
    /// The one whose owner has the fewest locks; of several the youngest.
    FewestLocks,
    /// The one with the lowest priority; of several the youngest.
    LowestPriority,
}

#[cfg(test)]
mod tests {
    use super::slot_key;

    #[test]
    fn a_tree_has_one_key() {
        let key =
            |name: &'static str, levels| core::str::from_utf8(slot_key(name.as_bytes(), levels, false)).unwrap_or("?");
        assert_eq!(
            [key("orders/page:5/row:17", 0), key("orders/page:5", 1), key("orders", 1)],
            ["orders/page:5/row:17", "orders", "orders"]
        );
        assert_eq!([key("orders/page:5/row:17", 2), key("orders/page:5", 2)], ["orders/page:5"; 2]);
        assert_eq!([key("a/b", 9), key("/a", 1), key("", 1)], ["a/b", "", ""]);
        assert_eq!([slot_key(b"t[1,2)", 0, true), slot_key(b"db/t{a=1}", 1, true)], [&b"t"[..], b"db"]);
    }
}
