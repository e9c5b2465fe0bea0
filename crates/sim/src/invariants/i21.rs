//! I21: which values a reader may find.
//!
//! Where nothing is injected no value is invalid, however slots move, with one exception: a start of a node that was master of slots, or home of
//! sessions, and is gone without having handed them over. That happens without a fault too: a node that starts and is told of more than it
//! can follow ends and starts anew, and slots may have been moved to the first start meanwhile, on which the value blocks were that
//! their former masters gave up.

use lockstead_types::{Slot, SpaceId, Token, reply::Value};

use crate::{
    group::id_of,
    judge::{NameTruth, Row},
    resource::name_of,
    world::World,
};

pub(crate) const STATEMENT: &str =
    "a value block that is read under a lock is the last one written under a writing mode, or is marked invalid";

/// A write that a program asked for.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Write {
    pub(crate) value: u64,
    /// Of the lock under which it was written.
    pub(crate) token: Token,
    /// True time at which it was asked for.
    pub(crate) asked: u64,
    /// True time at which it was known to be done.
    pub(crate) done: Option<u64>,
    /// Under a lock of a group, so that another program may have written under it at the same time.
    pub(crate) shared: bool,
}

/// Whether a resource may be empty: its value block goes with the last lock on it ([VALUE-10]).
#[derive(Default)]
pub(crate) struct Emptied {
    /// When the last lock went, true time.
    at: u64,
    moving: Option<Moving>,
}

/// Its master is gone, or its slot is, with locks on it: which of them come back is not known yet.
struct Moving {
    since: u64,
    /// When something was first on it again.
    back: Option<u64>,
}

impl Emptied {
    /// What was written until now may be gone.
    pub(crate) fn forget(&mut self, now: u64) {
        *self = Emptied { at: now, moving: None };
    }

    /// There were locks on it, which are gone with their master.
    pub(crate) fn left(&mut self, now: u64) {
        self.moving = Some(Moving { since: now, back: None });
    }

    /// The last lock that its master knew of went.
    fn went(&mut self, now: u64) {
        match &mut self.moving {
            // One that nobody has brought back yet may be held all the same.
            Some(moving) => moving.back = None,
            None => self.at = now,
        }
    }

    /// There are locks on it at its master, where none were.
    fn came(&mut self, now: u64) {
        match &mut self.moving {
            Some(moving) => moving.back = moving.back.or(Some(now)),
            None => self.at = now,
        }
    }

    /// Its master has heard of all locks that are on it. `is_held_since`: whether one of them is held since before that time, so that the
    /// resource was never without one. Else what nobody has brought back is gone; but who waits kept it from when that came.
    fn settle(&mut self, now: u64, is_held_since: impl FnOnce(u64) -> bool) {
        let Some(moving) = self.moving.take() else { return };
        if !is_held_since(moving.since) {
            self.at = moving.back.unwrap_or(now);
        }
    }

    /// Up to when what was written may be gone.
    fn until(&self) -> u64 {
        self.moving.as_ref().map_or(self.at, |moving| moving.back.unwrap_or(u64::MAX))
    }
}

impl World {
    /// [PERSIST-1] A node alone keeps none, whatever its lockspace says.
    pub(crate) fn values_go_with_locks(&self) -> bool {
        !self.options.persistent || self.options.alone
    }

    /// The table of a node has changed.
    pub(crate) fn judge_emptied(&mut self, at: usize, before: &[Row], rows: &[Row]) {
        if !self.values_go_with_locks() {
            return;
        }
        for name in 0..self.judge.truth.names.len() {
            let of = |row: &Row| usize::from(row.name) == name;
            let (had, has) = (before.iter().any(of), rows.iter().any(of));
            // The rows of this node are not among these.
            let on = |is_master: bool| {
                let nodes = self.judge.rows.iter().enumerate();
                let mut nodes = nodes.filter(|(node, _)| self.is_master(*node, name as u8) == is_master);
                nodes.any(|(_, rows)| rows.iter().any(of))
            };
            // Between two messages of one step, where nothing stays.
            let between = || !rows.iter().filter(|r| of(r)).any(|r| before.iter().any(|b| b.lock == r.lock));
            let (elsewhere, void) = (on(true), on(false));
            // One that has not applied that its slot has moved decides all the same, until somebody has reported to the next one.
            let decides = !elsewhere && self.takes_itself_for_master(at, name as u8);
            let is_master = self.is_master(at, name as u8) || decides;
            let (now, emptied) = (self.now, &mut self.judge.truth.names[name].emptied);
            match (had, has) {
                (true, false) if is_master => emptied.went(now),
                // What it had was void since the slot has another master, or had been told to it.
                (true, false) if !elsewhere => emptied.left(now),
                (false, true) if is_master => {
                    if void && emptied.moving.is_none() {
                        emptied.left(now);
                    }
                    emptied.came(now);
                }
                (true, true) if is_master && between() => {
                    emptied.went(now);
                    emptied.came(now);
                }
                _ => {}
            }
        }
    }

    /// Nothing is frozen at a node.
    pub(crate) fn settle_emptied(&mut self, at: usize, rows: &[Row]) {
        for name in 0..self.judge.truth.names.len() {
            if self.judge.truth.names[name].emptied.moving.is_none() || !self.knows_it_is_master(at, name as u8) {
                continue;
            }
            let (now, truth) = (self.now, &mut self.judge.truth.names[name]);
            let (tokens, emptied) = (&truth.tokens, &mut truth.emptied);
            let held = rows.iter().filter(|row| usize::from(row.name) == name && row.held.is_some());
            let mut given = held.filter_map(|row| tokens.get(&row.token)).map(|grant| grant.at);
            // What is granted as it comes back is not one of before.
            emptied.settle(now, |since| given.any(|at| at < since));
        }
    }

    /// Whether a node is the master of a name as far as it has applied the log.
    fn takes_itself_for_master(&self, at: usize, name: u8) -> bool {
        let known = self.nodes[at].node.as_ref().and_then(|node| node.cluster_state());
        let entry = known.and_then(|known| known.master(Slot::of(known.seed, SpaceId(0), &name_of(name))));
        entry.is_some_and(|e| e.master == id_of(at) && Some(e.incarnation) == self.nodes[at].incarnation)
    }

    /// Whether a node is the master of a name and has heard of all changes of that.
    fn knows_it_is_master(&self, at: usize, name: u8) -> bool {
        if self.options.alone {
            return true;
        }
        let truth = &self.group.state;
        let slot = Slot::of(truth.seed, SpaceId(0), &name_of(name));
        let known = self.nodes[at].node.as_ref().and_then(|node| node.cluster_state());
        let generation = known.and_then(|known| known.master(slot)).map(|entry| entry.generation);
        self.is_master(at, name) && generation == truth.master(slot).map(|entry| entry.generation)
    }
}

/// A value was read; whatever was done before `since` must be seen. `calm`: nothing can have made it invalid.
pub(crate) fn read(truth: &NameTruth, value: &Value, since: u64, calm: bool) -> Result<(), String> {
    if value.invalid {
        return if calm { Err("a value is invalid though nobody died".into()) } else { Ok(()) };
    }
    let last = truth.writes.iter().rposition(|w| w.done.is_some_and(|done| done < since));
    let Ok(bytes) = <[u8; 8]>::try_from(&*value.bytes) else {
        let gone = last.is_none_or(|at| truth.writes[at].asked <= truth.emptied.until());
        return if gone {
            Ok(())
        } else {
            Err(format!("nothing was read after {:?}", truth.writes[last.unwrap_or(0)]))
        };
    };
    let number = u64::from_be_bytes(bytes);
    let Some(found) = truth.writes.iter().position(|w| w.value == number) else {
        return Err(format!("{number} was read, which nobody wrote"));
    };
    // A later write of the same or a later grant that was done before must not be missed.
    match last {
        Some(at)
            if truth.writes[at].token > truth.writes[found].token
                || (at > found
                    && truth.writes[at].token == truth.writes[found].token
                    && comes_after(&truth.writes[at], &truth.writes[found])) =>
        {
            Err(format!("{:?} was read after {:?}", truth.writes[found], truth.writes[at]))
        }
        _ => Ok(()),
    }
}

/// Of two writes under one token, the later asked for: whether it was made later, too.
fn comes_after(write: &Write, before: &Write) -> bool {
    !write.shared || before.done.is_some_and(|done| done < write.asked)
}
