//! Looking: rows for people, made when asked for.

use alloc::{boxed::Box, vec::Vec};

use lockstead_types::{
    LockId, Mode, NodeId, SpaceId, Time, Token,
    report::{Holder, LeftOut, LockRow, ResourceDetail, ResourceRow, WaitEdge, Waits, queue_shares},
    request::Claim,
};

use crate::{
    OwnerId, Table,
    deadlock::Edge,
    lock::{State, Traits},
    owner::ORPHANS,
    slab::NIL,
    store::Ring,
};

/// Places that one look at the resources goes through, however many there are.
const PLACES_PER_LOOK: u32 = 8_192;
/// A row of a resource without its name, at most.
const ROW_BYTES: usize = 32;

/// A lock as it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen<'a> {
    /// Its id.
    pub lock: LockId,
    /// Whose; `None` for an orphan.
    pub owner: Option<OwnerId>,
    /// The lockspace.
    pub space: SpaceId,
    /// The resource.
    pub name: &'a [u8],
    /// What is held.
    pub held: Option<Claim>,
    /// What is waited for.
    pub wanted: Option<Claim>,
    /// The token held, [`Token::NONE`] where none is.
    pub token: Token,
    /// Its place among those that wait: lower ones came before.
    pub ticket: u64,
    /// Whether it stands alone.
    pub alone: bool,
}

impl Table {
    /// Every lock, in the order of their places, which is that of the lower half of their ids. For those who watch over a
    /// whole run.
    pub fn visit(&self, mut each: impl FnMut(Seen<'_>)) {
        for place in 0..self.locks.places() {
            let lock = &self.locks[place];
            if lock.state == State::Vacant {
                continue;
            }
            let wait = self.wait(place);
            each(Seen {
                lock: self.id(place),
                owner: (lock.owner != ORPHANS).then_some(OwnerId(lock.owner)),
                space: self.space_of(lock.resource).id,
                name: self.name_of(lock.resource),
                held: lock.is_held().then(|| self.claim(place, lock.mode)),
                wanted: wait.map(|w| self.claim(place, w.want)),
                token: self.token(place),
                ticket: wait.map_or(0, |w| w.ticket),
                alone: lock.traits.has(Traits::ALONE),
            });
        }
    }

    /// Rises whenever [`Table::visit`] may say something else than before. For those who watch over a whole run.
    #[cfg(feature = "edits")]
    #[must_use]
    pub fn edits(&self) -> u64 {
        self.locks.edits() + self.sides.edits()
    }

    /// Resources of a lockspace whose names start with `prefix`, from a place on; and the place to go on from, if that was
    /// not all. A resource that is there all the while is found once. At most `max` rows of about `max_bytes` together.
    ///
    /// Looks at a bounded number of places, not at all: whoever looks at a million names must not keep everybody else
    /// waiting. Hence no order, which the asker can make.
    #[must_use]
    pub fn resources(
        &self,
        space: SpaceId,
        prefix: &[u8],
        from: u32,
        (max, max_bytes): (usize, usize),
    ) -> (Vec<ResourceRow>, Option<u32>) {
        let Some(space) = self.spaces.find(space) else { return (Vec::new(), None) };
        let (mut rows, mut bytes) = (Vec::new(), 0usize);
        let end = self.resources.places().min(from.saturating_add(PLACES_PER_LOOK));
        for place in from..end {
            let resource = &self.resources[place];
            if resource.is_vacant()
                || resource.is_empty()
                || resource.space != space
                || !self.name_of(place).starts_with(prefix)
            {
                continue;
            }
            bytes = bytes.saturating_add(ROW_BYTES + self.name_of(place).len());
            if rows.len() >= max || (bytes > max_bytes && !rows.is_empty()) {
                return (rows, Some(place));
            }
            rows.push(self.resource_row(place));
        }
        (rows, (end < self.resources.places()).then_some(end))
    }

    fn resource_row(&self, index: u32) -> ResourceRow {
        let (resource, queue) = (&self.resources[index], self.queue(index));
        let strongest = match self.pool(index) {
            Some(pool) => Some(Claim::Permits { take: pool.taken, of: pool.of }),
            None => 31u32.checked_sub(resource.held.0.leading_zeros()).map(|m| Claim::Mode(Mode(m as u8))),
        };
        ResourceRow {
            name: self.name_of(index).into(),
            granted: resource.holders,
            converting: queue.map_or(0, |q| q.converting),
            waiting: queue.map_or(0, |q| q.waiting),
            strongest: strongest.filter(|_| resource.holders > 0),
        }
    }

    /// One resource with the heads of its queues, at most `max` locks together; `None` where no lock is on it. `master` is
    /// the caller's to fill in, and so is the slot; `who` says who an owner is, the tag is added.
    #[must_use]
    pub fn resource(
        &self,
        now: Time,
        space: SpaceId,
        name: &[u8],
        max: usize,
        who: &dyn Fn(OwnerId) -> Holder,
    ) -> Option<ResourceDetail> {
        let space = self.spaces.find(space)?;
        let name = self.without_extent(space, name);
        let index = self.find_resource(space, name).0?;
        if self.resources[index].is_empty()
            && !(self.space_of(index).space.persistent && self.outlives_its_locks(index))
        {
            return None;
        }
        let (converting, waiting) = self.queue(index).map_or((0, 0), |q| (q.converting, q.waiting));
        let granted = self.resources[index].holders - converting;
        // [WIRE-8] A hundred thousand may wait here; whoever looks must not keep them waiting longer.
        let [g, c, w] = queue_shares([granted as usize, converting as usize, waiting as usize], max);
        let rows = |ring: Ring, share| self.ring(index, ring).take(share).map(|l| self.row(now, l, who)).collect();
        Some(ResourceDetail {
            name: name.into(),
            master: NodeId(0),
            slot: None,
            granted: rows(Ring::Granted, g),
            converting: rows(Ring::Converting, c),
            waiting: rows(Ring::Waiting, w),
            left_out: LeftOut {
                granted: granted - g as u32,
                converting: converting - c as u32,
                waiting: waiting - w as u32,
            },
            value: self.known_value(index),
        })
    }

    /// The edges of who waits for whom, at most `max`, and how many wait in all. The slots being taken over are the caller's to fill in.
    #[must_use]
    pub fn waits(&self, now: Time, max: usize, who: &dyn Fn(OwnerId) -> Holder) -> Waits {
        let waiting = self.converting + self.waiting;
        let mut rows = Vec::new();
        let mut edges: Vec<Edge> = Vec::new();
        for place in 0..self.extras.places() {
            let resource = self.extras[place].resource;
            if resource == NIL || self.queue(resource).is_none() {
                continue;
            }
            for w in self.ring(resource, Ring::Converting).chain(self.ring(resource, Ring::Waiting)) {
                edges.clear();
                self.edges_of(w, &mut edges);
                for edge in &edges {
                    // [WIRE-8] Not counted further: how many edges there are nobody knows before all are made.
                    if rows.len() >= max {
                        return Waits { edges: rows, waiting, more: true, taking_over: 0 };
                    }
                    rows.push(self.edge_row(now, *edge, who));
                }
            }
        }
        Waits { edges: rows, waiting, more: false, taking_over: 0 }
    }

    pub(crate) fn edge_row(&self, now: Time, edge: Edge, who: &dyn Fn(OwnerId) -> Holder) -> WaitEdge {
        let resource = self.locks[edge.waiter].resource;
        WaitEdge {
            space: self.space_of(resource).id,
            name: Box::from(self.name_of(resource)),
            waiter: self.row(now, edge.waiter, who),
            blocker: self.row(now, edge.blocker, who),
            hard: edge.hard,
        }
    }

    fn row(&self, now: Time, l: u32, who: &dyn Fn(OwnerId) -> Holder) -> LockRow {
        let (lock, token) = (&self.locks[l], self.token(l));
        let mut holder = if lock.owner == ORPHANS { Holder::default() } else { who(OwnerId(lock.owner)) };
        holder.tag = self.tag(l);
        let since = match self.wait(l) {
            Some(wait) => Some(now.since(wait.since)),
            None if !lock.traits.has(Traits::FOREIGN) => Some(self.grant_times.age(token.sequence(), now)),
            // Taken back after a restart, or from another node: older than anything this node knows.
            None => None,
        };
        LockRow {
            lock: self.id(l),
            extent: self.extent_text(l).unwrap_or_default(),
            held: lock.is_held().then(|| self.claim(l, lock.mode)),
            wanted: self.wait(l).map(|w| self.claim(l, w.want)),
            token,
            holder,
            since,
        }
    }
}
