//! The index of extents: balanced trees of intervals, in which a search for what overlaps goes only where it can find something.
//!
//! One tree for each attribute that some extent is known by, of nodes that all resources share, as locks do. A node knows of all below it
//! the highest end, the modes held and the first that waits: whole branches that end too early, hold nothing that matters or
//! wait too late are passed over. Heights of two branches differ by one at most (Adelson-Velsky and Landis), so a search costs the
//! logarithm and what it finds. Decides nothing.

use alloc::{boxed::Box, vec::Vec};
use core::{cmp::Ordering, ops::ControlFlow};

use lockstead_types::{
    ModeSet,
    extent::{Extent, Interval},
};

use crate::slab::{NIL, Slab};

/// The place of one that waits among all that wait at its resource: conversions first, then by rank, then by ticket.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Turn(u128);

impl Turn {
    /// Of one that does not wait: after all that do.
    pub(crate) const NEVER: Turn = Turn(u128::MAX);
    /// Before this one are conversions alone.
    pub(crate) const NEW: Turn = Turn(1 << 127);

    /// Ranks are times in nanoseconds: 62 bits are enough.
    pub(crate) fn new(converting: bool, rank: i64, ticket: u64) -> Turn {
        let most = 1i64 << 61;
        let rank = (rank.clamp(-most, most - 1) + most) as u64;
        let base = if converting { 0 } else { Turn::NEW.0 };
        Turn(base | u128::from(rank) << 64 | u128::from(ticket))
    }
}

/// A lock in the index.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) lock: u32,
    pub(crate) extent: Extent,
    /// Which of its conditions it is sorted by.
    by: u8,
    height: u8,
    tree: u32,
    parent: u32,
    children: [u32; 2],
    /// Of this node and all below it, the one whose interval ends last.
    last: u32,
    /// The first bytes of where it begins and ends, and of where that one ends: nearly always they say which of two comes first, and the
    /// keys, which lie elsewhere, are not looked at.
    lo_head: u64,
    hi_head: u64,
    last_head: u64,
    /// The mode it holds, if any.
    pub(crate) held: ModeSet,
    held_below: ModeSet,
    /// When its turn comes, if it waits.
    pub(crate) turn: Turn,
    first_below: Turn,
}

/// The trees of one resource, each of one attribute.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trees(Vec<(Box<[u8]>, u32)>);

/// What a search looks for in a branch: something held, or something that waits.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Sought {
    /// Holds one of these modes.
    Held(ModeSet),
    /// Waits, and its turn is before this one.
    Before(Turn),
    /// Anything.
    All,
}

impl Node {
    fn vacant() -> Node {
        Node {
            lock: NIL,
            extent: Extent::default(),
            by: 0,
            height: 0,
            tree: 0,
            parent: NIL,
            children: [NIL, NIL],
            last: NIL,
            lo_head: 0,
            hi_head: u64::MAX,
            last_head: u64::MAX,
            held: ModeSet::EMPTY,
            held_below: ModeSet::EMPTY,
            turn: Turn::NEVER,
            first_below: Turn::NEVER,
        }
    }

    fn interval(&self) -> Option<&Interval> {
        self.extent.conditions().get(usize::from(self.by)).map(|c| &c.values)
    }

    fn lo(&self) -> &[u8] {
        self.interval().map_or(&[], Interval::lo)
    }

    fn hi(&self) -> Option<&[u8]> {
        self.interval().and_then(Interval::hi)
    }

    /// Whether it begins before, with or after a key.
    fn begins(&self, head: u64, key: &[u8]) -> Ordering {
        self.lo_head.cmp(&head).then_with(|| self.lo().cmp(key))
    }

    fn is(&self, sought: Sought) -> bool {
        match sought {
            Sought::Held(modes) => !self.held.is_disjoint(modes),
            Sought::Before(turn) => self.turn < turn,
            Sought::All => true,
        }
    }

    fn leads_to(&self, sought: Sought) -> bool {
        match sought {
            Sought::Held(modes) => !self.held_below.is_disjoint(modes),
            Sought::Before(turn) => self.first_below < turn,
            Sought::All => true,
        }
    }
}

/// The first eight bytes, as a number: of two that differ the keys differ as they do.
fn head_of(key: &[u8]) -> u64 {
    key.iter().chain(core::iter::repeat(&0)).take(8).fold(0, |head, byte| head << 8 | u64::from(*byte))
}

/// Where an interval ends; one without an end after all.
fn end_of(interval: Option<&Interval>) -> u64 {
    interval.and_then(Interval::hi).map_or(u64::MAX, head_of)
}

/// [PRED-3] By what an extent is found: its key, else an equality, else the first of its attributes.
fn known_by(extent: &Extent) -> (usize, &[u8]) {
    let all = extent.conditions();
    let key = all.iter().position(|c| c.attribute.is_empty());
    let by = key.or_else(|| all.iter().position(|c| c.values.only().is_some())).unwrap_or(0);
    (by, all.get(by).map_or(&[], |c| &c.attribute))
}

type Nodes = Slab<Node>;

impl Trees {
    /// Puts a lock in. Its place among the nodes.
    pub(crate) fn insert(&mut self, nodes: &mut Nodes, lock: u32, extent: Extent) -> u32 {
        let n = nodes.take(Node::vacant);
        let (by, attribute) = known_by(&extent);
        let known = self.0.iter().position(|(of, _)| **of == *attribute);
        let tree = known.unwrap_or_else(|| {
            // One that is empty is used again.
            let free = self.0.iter().position(|(_, root)| *root == NIL);
            let free = free.unwrap_or_else(|| {
                self.0.push((Box::default(), NIL));
                self.0.len() - 1
            });
            self.0[free].0 = attribute.into();
            free
        });
        let (by, tree) = (by as u8, tree as u32);
        nodes[n] = Node { lock, extent, by, tree, height: 1, last: n, ..Node::vacant() };
        let (lo_head, hi_head) = (head_of(nodes[n].lo()), end_of(nodes[n].interval()));
        (nodes[n].lo_head, nodes[n].hi_head, nodes[n].last_head) = (lo_head, hi_head, hi_head);
        let root = &mut self.0[tree as usize].1;
        let (mut at, mut parent, mut side) = (*root, NIL, 0);
        while at != NIL {
            parent = at;
            side = usize::from(nodes[at].begins(lo_head, nodes[n].lo()).then(at.cmp(&n)).is_lt());
            at = nodes[at].children[side];
        }
        nodes[n].parent = parent;
        if parent == NIL {
            *root = n;
        } else {
            nodes[parent].children[side] = n;
            balance(nodes, root, parent, NIL);
        }
        n
    }

    /// Takes a lock out, and frees its place.
    pub(crate) fn remove(&mut self, nodes: &mut Nodes, n: u32) {
        let root = &mut self.0[nodes[n].tree as usize].1;
        let [left, right] = nodes[n].children;
        let (from, moved) = if left != NIL && right != NIL {
            // The next one in order takes its place.
            let mut next = right;
            while nodes[next].children[0] != NIL {
                next = nodes[next].children[0];
            }
            let (parent, rest) = (nodes[next].parent, nodes[next].children[1]);
            let from = if parent == n { next } else { parent };
            if parent != n {
                replace(nodes, root, next, rest);
                nodes[next].children[1] = right;
                nodes[right].parent = next;
            }
            nodes[next].children[0] = left;
            nodes[left].parent = next;
            replace(nodes, root, n, next);
            (from, next)
        } else {
            let parent = nodes[n].parent;
            replace(nodes, root, n, if left == NIL { right } else { left });
            (parent, NIL)
        };
        if from != NIL {
            balance(nodes, root, from, moved);
        }
        nodes[n] = Node::vacant();
        nodes.give(n);
    }

    /// Shows all that are sought and overlap an extent to `visit`, until it breaks off. In no order.
    pub(crate) fn search(
        &self,
        nodes: &Nodes,
        extent: &Extent,
        sought: Sought,
        visit: &mut dyn FnMut(&Node) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        for (attribute, root) in &self.0 {
            let condition = extent.conditions().iter().find(|c| c.attribute == *attribute);
            let interval = condition.map(|c| &c.values);
            let lo = interval.map_or(&[][..], Interval::lo);
            let (lo_head, hi_head) = (head_of(lo), end_of(interval));
            Search { nodes, extent, interval, lo_head, hi_head, sought }.go(*root, visit)?;
        }
        ControlFlow::Continue(())
    }

    /// The locks of exactly this extent.
    pub(crate) fn equal<'a>(&'a self, nodes: &'a Nodes, extent: &'a Extent) -> Vec<u32> {
        let (by, attribute) = known_by(extent);
        let lo = extent.conditions().get(by).map_or(&[][..], |c| c.values.lo());
        let head = head_of(lo);
        let mut found = Vec::new();
        let mut below: Vec<u32> = self.0.iter().filter(|(of, _)| **of == *attribute).map(|(_, root)| *root).collect();
        while let Some(n) = below.pop() {
            if n == NIL {
                continue;
            }
            let node = &nodes[n];
            let order = node.begins(head, lo);
            if order.is_le() {
                below.push(node.children[1]);
            }
            if order.is_ge() {
                below.push(node.children[0]);
            }
            if order.is_eq() && node.extent == *extent {
                found.push(node.lock);
            }
        }
        found
    }

    /// What is wrong with it, for [`crate::Table::check`]; and how many are in it.
    pub(crate) fn check(&self, nodes: &Nodes) -> Result<u32, &'static str> {
        let mut count = 0;
        for (tree, (attribute, root)) in self.0.iter().enumerate() {
            let mut below = Vec::from_iter((*root != NIL).then_some((*root, NIL)));
            while let Some((n, parent)) = below.pop() {
                let node = &nodes[n];
                count += 1;
                let known = known_by(&node.extent) == (usize::from(node.by), &**attribute);
                if node.parent != parent || node.tree as usize != tree || !known {
                    return Err("a node is in the wrong place");
                }
                let [left, right] = node.children;
                let before = left == NIL || (nodes[left].lo(), left) < (node.lo(), n);
                let behind = right == NIL || (node.lo(), n) < (nodes[right].lo(), right);
                let heights = [height(nodes, left), height(nodes, right)];
                if !before || !behind || heights[0].abs_diff(heights[1]) > 1 {
                    return Err("a tree is not sorted, or not balanced");
                }
                let mut again = node.clone();
                sum_up(nodes, n, &mut again);
                let same = (again.height, again.held_below, again.first_below)
                    == (node.height, node.held_below, node.first_below);
                if !same || nodes[again.last].hi() != nodes[node.last].hi() {
                    return Err("a node does not know what is below it");
                }
                below.extend([left, right].into_iter().filter(|child| *child != NIL).map(|child| (child, n)));
            }
        }
        Ok(count)
    }
}

/// Notes what a lock holds, or when its turn comes.
pub(crate) fn note(nodes: &mut Nodes, n: u32, held: ModeSet, turn: Turn) {
    if (nodes[n].held, nodes[n].turn) == (held, turn) {
        return;
    }
    (nodes[n].held, nodes[n].turn) = (held, turn);
    let mut at = n;
    while at != NIL && renew(nodes, at) {
        at = nodes[at].parent;
    }
}

struct Search<'a> {
    nodes: &'a Nodes,
    extent: &'a Extent,
    interval: Option<&'a Interval>,
    lo_head: u64,
    hi_head: u64,
    sought: Sought,
}

impl Search<'_> {
    /// Whether an interval ends before what is sought begins.
    fn is_over(&self, node: &Node) -> bool {
        let lo = self.interval.map_or(&[][..], Interval::lo);
        node.hi().is_some_and(|hi| hi <= lo)
    }

    /// As deep as the tree is high: less than 48.
    fn go(&mut self, n: u32, visit: &mut dyn FnMut(&Node) -> ControlFlow<()>) -> ControlFlow<()> {
        if n == NIL || !self.nodes[n].leads_to(self.sought) {
            return ControlFlow::Continue(());
        }
        let nodes = self.nodes;
        let node = &nodes[n];
        // All below end before it begins.
        if node.last_head < self.lo_head || (node.last_head == self.lo_head && self.is_over(&nodes[node.last])) {
            return ControlFlow::Continue(());
        }
        self.go(node.children[0], visit)?;
        // This one and all behind it begin after it has ended.
        let hi = self.interval.and_then(Interval::hi);
        if self.hi_head < node.lo_head || (self.hi_head == node.lo_head && hi.is_some_and(|hi| hi <= node.lo())) {
            return ControlFlow::Continue(());
        }
        if node.hi_head >= self.lo_head && node.is(self.sought) && node.extent.overlaps(self.extent) {
            visit(node)?;
        }
        self.go(node.children[1], visit)
    }
}

// --------------------------------------------------------------------- shape

fn height(nodes: &Nodes, n: u32) -> u8 {
    if n == NIL { 0 } else { nodes[n].height }
}

/// What a node knows of all below it.
fn sum_up(nodes: &Nodes, n: u32, node: &mut Node) {
    node.height = 1;
    node.last = n;
    node.last_head = node.hi_head;
    node.held_below = node.held;
    node.first_below = node.turn;
    for child in node.children.into_iter().filter(|child| *child != NIL) {
        let below = &nodes[child];
        node.height = node.height.max(below.height + 1);
        node.held_below = node.held_below.union(below.held_below);
        node.first_below = node.first_below.min(below.first_below);
        // One without an end ends after all others.
        let later = |ours: Option<&[u8]>| match (nodes[below.last].hi(), ours) {
            (theirs, Some(ours)) => theirs.is_none_or(|theirs| theirs > ours),
            (_, None) => false,
        };
        let is_later = match below.last_head.cmp(&node.last_head) {
            Ordering::Less => false,
            Ordering::Greater => true,
            Ordering::Equal => later(if node.last == n { node.hi() } else { nodes[node.last].hi() }),
        };
        if is_later {
            (node.last, node.last_head) = (below.last, below.last_head);
        }
    }
}

/// Whether anything of it changed.
fn renew(nodes: &mut Nodes, n: u32) -> bool {
    let known = |node: &Node| (node.height, node.last, node.last_head, node.held_below, node.first_below);
    let before = known(&nodes[n]);
    let mut node = core::mem::replace(&mut nodes[n], Node::vacant());
    sum_up(nodes, n, &mut node);
    let changed = known(&node) != before;
    nodes[n] = node;
    changed
}

/// Puts `new` where `old` hangs.
fn replace(nodes: &mut Nodes, root: &mut u32, old: u32, new: u32) {
    let parent = nodes[old].parent;
    if new != NIL {
        nodes[new].parent = parent;
    }
    if parent == NIL {
        *root = new;
    } else {
        let side = usize::from(nodes[parent].children[1] == old);
        nodes[parent].children[side] = new;
    }
}

/// From a node whose branches changed upwards, as far as something changes; at least up to `through`, which has come to stand elsewhere.
fn balance(nodes: &mut Nodes, root: &mut u32, from: u32, through: u32) {
    let (mut n, mut through) = (from, through);
    while n != NIL {
        let changed = renew(nodes, n);
        let [left, right] = nodes[n].children.map(|child| height(nodes, child));
        if left.abs_diff(right) > 1 {
            let side = usize::from(right > left);
            let high = nodes[n].children[side];
            let inner = nodes[high].children[1 - side];
            if height(nodes, inner) > height(nodes, nodes[high].children[side]) {
                rotate(nodes, root, high, 1 - side);
            }
            let lifted = rotate(nodes, root, n, side);
            through = if through == n { NIL } else { through };
            n = lifted;
        } else if through == n {
            through = NIL;
        } else if !changed && through == NIL {
            // Nothing above knows of it.
            return;
        }
        n = nodes[n].parent;
    }
}

/// Lifts the child at `side` of a node over it; the child.
fn rotate(nodes: &mut Nodes, root: &mut u32, n: u32, side: usize) -> u32 {
    let child = nodes[n].children[side];
    let between = nodes[child].children[1 - side];
    replace(nodes, root, n, child);
    nodes[n].children[side] = between;
    if between != NIL {
        nodes[between].parent = n;
    }
    nodes[child].children[1 - side] = n;
    nodes[n].parent = child;
    renew(nodes, n);
    renew(nodes, child);
    child
}
