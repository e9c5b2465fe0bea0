//! Looking: rows for people, made when asked for.

use alloc::{boxed::Box, collections::BTreeMap, vec::Vec};

use lockstead_types::{
    Mode, NodeId, SpaceId, Time,
    report::{Holder, LockRow, ResourceDetail, ResourceRow, WaitEdge},
    request::Claim,
};

use crate::{OwnerId, Table, deadlock::Edge, owner::ORPHANS, slab::NIL, store::Ring};

impl Table {
    /// Resources of a lockspace in the order of their names: those that start with `prefix` and come after `after`, at
    /// most `max`; and whether there are more. Looks at every resource there is.
    #[must_use]
    pub fn resources(&self, space: SpaceId, prefix: &[u8], after: &[u8], max: usize) -> (Vec<ResourceRow>, bool) {
        let Some(space) = self.spaces.find(space) else { return (Vec::new(), false) };
        let mut first: BTreeMap<&[u8], u32> = BTreeMap::new();
        for index in 0..self.resources.places() {
            let resource = &self.resources[index];
            if resource.is_vacant() || resource.space != space {
                continue;
            }
            let name = self.name_of(index);
            if !name.starts_with(prefix) || name <= after {
                continue;
            }
            first.insert(name, index);
            // One more than asked for, to know whether there are more.
            if first.len() > max.saturating_add(1) {
                first.pop_last();
            }
        }
        let more = first.len() > max;
        (first.into_values().take(max).map(|r| self.resource_row(r)).collect(), more)
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

    /// One resource with its queues, `None` where no lock is on it. `master` is the caller's to fill in; `who` says who
    /// an owner is, the tag is added.
    #[must_use]
    pub fn resource(
        &self,
        now: Time,
        space: SpaceId,
        name: &[u8],
        who: &dyn Fn(OwnerId) -> Holder,
    ) -> Option<ResourceDetail> {
        let index = self.find_resource(self.spaces.find(space)?, name).0?;
        let rows = |ring: Ring| self.ring(index, ring).map(|l| self.row(now, l, who)).collect();
        Some(ResourceDetail {
            name: name.into(),
            master: NodeId(0),
            granted: rows(Ring::Granted),
            converting: rows(Ring::Converting),
            waiting: rows(Ring::Waiting),
            value: self.extra(index).and_then(|e| e.value.clone()),
        })
    }

    /// Every edge of who waits for whom, at most `max`.
    #[must_use]
    pub fn waits(&self, now: Time, max: usize, who: &dyn Fn(OwnerId) -> Holder) -> Vec<WaitEdge> {
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
                    if rows.len() >= max {
                        return rows;
                    }
                    rows.push(self.edge_row(now, *edge, who));
                }
            }
        }
        rows
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
            Some(wait) => now.since(wait.since),
            None if token.epoch() == self.epoch => self.grant_times.age(token.sequence(), now),
            // Taken back after a restart: older than anything this node knows.
            None => now.since(Time::ZERO),
        };
        LockRow {
            lock: self.id(l),
            held: lock.is_held().then(|| self.claim(l, lock.mode)),
            wanted: self.wait(l).map(|w| self.claim(l, w.want)),
            token,
            holder,
            since,
        }
    }
}
