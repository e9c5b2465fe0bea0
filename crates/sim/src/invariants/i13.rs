//! I13, in calm: whoever holds what another waits for has been told, and its program knows.
//!
//! A program's lock is found by its resource and token together: two masters that have not heard of each other meanwhile may give the
//! same number to locks on two resources, and both to one program ([TOKEN-5]).

use std::collections::BTreeMap;

use lockstead_types::{LockId, Mode, Token};

use crate::{
    app::Held,
    calm::millis,
    invariants::Code,
    judge::Row,
    world::{SEC, World},
};

pub(crate) const STATEMENT: &str = "a blocking notice is delivered at least once while it matters";

/// Over a home, and again after a moment without it.
const WITHIN: u64 = 2 * SEC;

/// Pairs of a holder and one that waits for it, and since when they have been. Who converts is another holder: it is told anew.
#[derive(Default)]
pub(crate) struct Notices {
    since: BTreeMap<(usize, LockId, LockId, Token, Mode), u64>,
}

impl World {
    pub(crate) fn judge_notices(&mut self) {
        let mut seen = BTreeMap::new();
        let calm = self.calm_since();
        let mut late = None;
        for (at, rows) in self.judge.rows.iter().enumerate() {
            let ready = self.nodes[at].node.as_ref().is_some_and(lockstead_node::Node::is_ready);
            for waiter in rows.iter().filter(|row| ready && row.wanted.is_some()) {
                let Some(wanted) = waiter.wanted else { continue };
                // [BLOCK-4] Who converts is not told.
                for holder in rows.iter().filter(|row| row.name == waiter.name && row.wanted.is_none()) {
                    let Some(held) = holder.held else { continue };
                    if self.modes.compatible(wanted, held) || holder.lock == waiter.lock {
                        continue;
                    }
                    let key = (at, holder.lock, waiter.lock, holder.token, held);
                    let since = self.judge.notices.since.get(&key).copied().unwrap_or(self.now);
                    seen.insert(key, since);
                    if self.now > since.max(calm) + WITHIN && self.is_ignorant(holder, calm + WITHIN) {
                        late = Some((at, *holder, *waiter, since));
                    }
                }
            }
        }
        self.judge.notices.since = seen;
        if let Some((at, holder, waiter, since)) = late {
            let ago = millis(since, self.now);
            let what = format!("node {at}: the program of {holder:?} has not heard of {waiter:?} for {ago} ms");
            self.judge.fail(Code::I13, &what);
        }
    }

    /// Whether a program counts on a lock and has not been told that somebody waits for it, though it was always connected.
    fn is_ignorant(&self, row: &Row, calm: u64) -> bool {
        let Some(client) = self.clients.iter().find(|c| c.alive && Some(c.id) == row.session) else { return false };
        let connected = client.conn.is_some() && self.now > client.conn_since + WITHIN && self.now > calm;
        let its = |held: &&Held| held.name == row.name && held.token == row.token && !held.converting;
        let held = client.app.held.values().find(its);
        connected && held.is_some_and(|held| !held.blocking)
    }
}
