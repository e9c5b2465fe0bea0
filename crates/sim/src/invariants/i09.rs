//! I9, in calm: from the last renewal a session had, or from the last disturbance, its lease and one takeover.
//!
//! Each disturbance may start the lease anew (another leader, another home), so what is not shown here is a cap on how often. That
//! takeovers which go on for ever do not keep a dead holder's lock is not promised by the steward, which remembers nothing of the
//! one before it.

use std::collections::BTreeMap;

use lockstead_types::SessionId;

use crate::{
    calm::millis,
    group::id_of,
    invariants::Code,
    world::{MS, RHO_PPM, SEC, World},
};

pub(crate) const STATEMENT: &str =
    "a dead holder's lock is available within its lease and the time of a takeover, counted from the last disturbance";

/// Detection of a dead home that led the group, and what else comes before the lease is counted.
const TAKEOVER: u64 = 6 * SEC;

/// When each session was last renewed, true time.
#[derive(Default)]
pub(crate) struct Leases {
    renewed: BTreeMap<SessionId, u64>,
}

impl Leases {
    pub(crate) fn renewed(&mut self, session: SessionId, now: u64) {
        self.renewed.insert(session, now);
    }
}

impl World {
    pub(crate) fn judge_leases(&mut self) {
        let ttl = u64::from(self.options.ttl) * MS;
        let bound = ttl * 1_000_000 / u64::from(1_000_000 - RHO_PPM) + TAKEOVER;
        let calm = self.calm_since();
        if self.now < calm + bound {
            return;
        }
        for (at, rows) in self.judge.rows.iter().enumerate() {
            for row in rows.iter().filter(|row| self.is_master(at, row.name)) {
                let Some(session) = row.session else { continue };
                let since = self.judge.leases.renewed.get(&session).copied().unwrap_or_default();
                if self.now > since.max(calm) + bound {
                    let ago = (millis(since, self.now), millis(calm, self.now));
                    let what = format!("node {at}: {row:?}, last renewed {} ms ago, all well for {} ms", ago.0, ago.1);
                    return self.judge.fail(Code::I9, &what);
                }
            }
        }
    }

    /// Whether the members have this node decide about a resource.
    pub(crate) fn is_master(&self, at: usize, name: u8) -> bool {
        if self.options.alone {
            return true;
        }
        let state = &self.group.state;
        let slot = lockstead_types::Slot::of(state.seed, lockstead_types::SpaceId(0), &crate::resource::name_of(name));
        let entry = state.master(slot);
        entry.is_some_and(|e| e.master == id_of(at) && Some(e.incarnation) == self.nodes[at].incarnation)
    }
}
