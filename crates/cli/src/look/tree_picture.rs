//! Wait-for edges as an indented picture.
//!
//! The edges are between locks; the picture is between parties (sessions, groups), because a party that waits with one
//! lock is why another of its locks is not released: so chains over several resources become visible.

use std::collections::{HashMap, HashSet};

use lockstead::{LockId, SessionId, SpaceId};
use lockstead_types::{
    GroupId, Token,
    report::{Holder, LockRow, WaitEdge, Waits},
};

use super::spaces::Spaces;
use crate::output::text;

/// Chains longer than this are cut: nobody reads them, and the picture recurses.
const DEPTH_MAX: usize = 64;

/// Draws the edges, and says what is left out; `outer` says which session each runs within.
pub(super) fn draw(waits: &Waits, spaces: &Spaces, outer: &HashMap<SessionId, SessionId>) -> String {
    let edges = &waits.edges;
    if edges.is_empty() && waits.waiting == 0 {
        if waits.taking_over > 0 {
            return taking_over(waits) + "among the others nobody waits; `lockstead ls --locks` shows what is held\n";
        }
        return "nobody waits; `lockstead ls --locks` shows what is held".to_owned();
    }
    let mut picture = Picture { spaces, outer, blocks: blocks(edges), drawn: HashSet::new(), text: String::new() };
    let waiters = edges.iter().map(|edge| Party::of(&edge.waiter));
    let waiting: HashSet<Party> = waiters.flat_map(|party| picture.outwards(party).chain([party])).collect();
    let heads = edges.iter().filter(|edge| !waiting.contains(&Party::of(&edge.blocker)));
    // Whoever is left after those stands in a cycle, or behind one.
    for edge in heads.chain(edges) {
        let party = Party::of(&edge.blocker);
        if picture.blocks.contains_key(&party) {
            picture.text.push_str(&format!("{}\n", text::who(&edge.blocker.holder)));
            picture.draw_blocked_by(party, "", 0);
        }
    }
    taking_over(waits) + &picture.text + &rest(waits)
}

/// That the picture is not complete while slots of a dead or leaving node come to others.
fn taking_over(waits: &Waits) -> String {
    match waits.taking_over {
        0 => String::new(),
        slots => {
            format!("{slots} slots are being taken over by other nodes: who waits for names in them is not shown yet\n")
        }
    }
}

/// What the edges do not show.
fn rest(waits: &Waits) -> String {
    let shown: HashSet<Wait<'_>> = waits.edges.iter().map(Wait::of).collect();
    match (waits.waiting.saturating_sub(shown.len() as u64), waits.more) {
        (0, false) => String::new(),
        (0, true) => "... more of what those wait for not shown\n".to_owned(),
        (waiters, true) => text::not_shown(waiters, "waiters"),
        // The node takes locks back after a restart, or those in the way have NODLCKBLK.
        (waiters, false) => format!("... {waiters} more wait, but for no lock that counts as in their way\n"),
    }
}

/// A lock that waits. Nodes number their locks each by itself; a resource has one node.
#[derive(PartialEq, Eq, Hash)]
struct Wait<'a> {
    space: SpaceId,
    name: &'a [u8],
    lock: LockId,
}

impl<'a> Wait<'a> {
    fn of(edge: &'a WaitEdge) -> Wait<'a> {
        Wait { space: edge.space, name: &edge.name, lock: edge.waiter.lock }
    }
}

/// Who waits or is waited for.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
enum Party {
    Session(SessionId),
    Group(GroupId),
    /// An orphan.
    Lock(LockId),
}

impl Party {
    fn of(row: &LockRow) -> Party {
        let Holder { session, group, .. } = row.holder;
        let session = session.map(Party::Session);
        group.map(Party::Group).or(session).unwrap_or(Party::Lock(row.lock))
    }
}

/// One lock of a party, and those who wait for it.
struct Block<'a> {
    edge: &'a WaitEdge,
    waiters: Vec<&'a LockRow>,
}

/// What each party blocks. A waiter stands beneath those who hold what it wants; beneath an earlier waiter only where
/// nobody else is in its way, or it would be drawn beneath everybody before it.
fn blocks(edges: &[WaitEdge]) -> HashMap<Party, Vec<Block<'_>>> {
    let hard: HashSet<Wait<'_>> = edges.iter().filter(|edge| edge.hard).map(Wait::of).collect();
    let mut blocks: HashMap<Party, Vec<Block<'_>>> = HashMap::new();
    for edge in edges.iter().filter(|edge| edge.hard || !hard.contains(&Wait::of(edge))) {
        let of_party = blocks.entry(Party::of(&edge.blocker)).or_default();
        let same = |block: &&mut Block<'_>| {
            block.edge.space == edge.space
                && block.edge.name == edge.name
                && block.edge.blocker.lock == edge.blocker.lock
        };
        match of_party.iter_mut().find(same) {
            Some(block) => block.waiters.push(&edge.waiter),
            None => of_party.push(Block { edge, waiters: vec![&edge.waiter] }),
        }
    }
    blocks
}

struct Picture<'a> {
    spaces: &'a Spaces,
    outer: &'a HashMap<SessionId, SessionId>,
    blocks: HashMap<Party, Vec<Block<'a>>>,
    drawn: HashSet<Party>,
    text: String,
}

impl Picture<'_> {
    /// The sessions a party runs within, from the nearest on. What sessions say of themselves may be a ring.
    fn outwards(&self, party: Party) -> impl Iterator<Item = Party> + use<'_> {
        let next = |party: &Party| match party {
            Party::Session(id) => self.outer.get(id).copied().map(Party::Session),
            Party::Group(_) | Party::Lock(_) => None,
        };
        core::iter::successors(next(&party), next).take(DEPTH_MAX)
    }

    /// Everything beneath a party, once: where it comes up again the reader finds it above, which also ends cycles.
    fn draw_blocked_by(&mut self, party: Party, indent: &str, depth: usize) {
        let blocks = self.blocks.remove(&party).unwrap_or_default();
        if !blocks.is_empty() {
            self.drawn.insert(party);
        }
        self.draw_around(party, blocks.is_empty(), indent, depth);
        for (i, block) in blocks.iter().enumerate() {
            let (branch, below) = signs(i + 1 == blocks.len());
            self.text.push_str(&format!("{indent}{branch}{}\n", self.resource(block.edge)));
            let indent = format!("{indent}{below}");
            for (j, waiter) in block.waiters.iter().enumerate() {
                let (branch, below) = signs(j + 1 == block.waiters.len());
                let next = Party::of(waiter);
                let note = if self.drawn.contains(&next) { "  (see above)" } else { "" };
                self.text.push_str(&format!("{indent}{branch}{}{note}\n", self.waiter(block.edge, waiter)));
                if note.is_empty() && depth < DEPTH_MAX {
                    self.draw_blocked_by(next, &format!("{indent}{below}"), depth + 1);
                }
            }
        }
    }

    /// The session that a party runs within waits for it too: what that one blocks.
    fn draw_around(&mut self, party: Party, last: bool, indent: &str, depth: usize) {
        let Some(outer) = self.outwards(party).find(|outer| self.blocks.contains_key(outer)) else { return };
        let Some(holder) = self.blocks[&outer].first().map(|block| &block.edge.blocker.holder) else { return };
        let (branch, below) = signs(last);
        self.text.push_str(&format!("{indent}{branch}within {}\n", text::who(holder)));
        if depth < DEPTH_MAX {
            self.draw_blocked_by(outer, &format!("{indent}{below}"), depth + 1);
        }
    }

    fn resource(&self, edge: &WaitEdge) -> String {
        let modes = self.spaces.modes(edge.space);
        let name = self.spaces.resource(edge.space, &edge.name);
        let (row, since) = (&edge.blocker, text::since(&edge.blocker));
        if !edge.hard {
            return format!("{name} wanted as {} {since} (soft)", text::held_and_wanted(row, modes));
        }
        let token = if row.token == Token::NONE { String::new() } else { format!(", token {}", row.token) };
        format!("{name} {} {since}{token}", text::held_and_wanted(row, modes))
    }

    fn waiter(&self, edge: &WaitEdge, row: &LockRow) -> String {
        let wants = text::held_and_wanted(row, self.spaces.modes(edge.space));
        format!("wants {wants} {}: {}", text::since(row), text::who(&row.holder))
    }
}

/// The sign before a line, and what stands beneath it.
fn signs(last: bool) -> (&'static str, &'static str) {
    if last { ("\u{2514}\u{2500} ", "   ") } else { ("\u{251c}\u{2500} ", "\u{2502}  ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two masters that have given the same numbers to their locks.
    fn of_two_masters() -> Waits {
        let row = |lock, session| LockRow {
            lock: LockId(lock),
            extent: String::new(),
            held: None,
            wanted: None,
            token: Token::NONE,
            holder: Holder { session: Some(SessionId(session)), ..Holder::default() },
            since: None,
        };
        let edge = |name: &[u8], hard, (waiter, blocker)| WaitEdge {
            space: SpaceId(0),
            name: name.into(),
            waiter: row(2, waiter),
            blocker: row(1, blocker),
            hard,
        };
        let edges = vec![edge(b"a", true, (20, 10)), edge(b"b", false, (21, 10))];
        Waits { edges, waiting: 2, more: false, taking_over: 0 }
    }

    #[test]
    fn locks_of_two_masters_are_told_apart() {
        let waits = of_two_masters();
        assert_eq!(rest(&waits), "", "both are shown");
        let blocks = blocks(&waits.edges);
        let names = blocks[&Party::Session(SessionId(10))].iter().map(|block| (&*block.edge.name, block.waiters.len()));
        assert_eq!(names.collect::<Vec<_>>(), [(&b"a"[..], 1), (&b"b"[..], 1)]);
    }

    #[test]
    fn a_takeover_is_said_though_nobody_else_waits() {
        let waits = Waits { edges: Vec::new(), waiting: 0, more: false, taking_over: 1_365 };
        assert!(taking_over(&waits).starts_with("1365 slots are being taken over by other nodes"));
        assert_eq!(taking_over(&Waits { taking_over: 0, ..waits }), "");
    }
}
