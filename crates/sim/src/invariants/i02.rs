//! I2, looked at whenever a client begins to believe in something. Renewals only prolong a belief, so no other moment counts.

use lockstead_types::LockId;

use crate::{invariants::Code, world::World};

pub(crate) const STATEMENT: &str = "while clocks keep their promise, no two clients' own clocks tell them at one true time that they hold what conflicts";

/// A client was told what it holds.
pub(crate) fn told(world: &mut World, at: usize, lock: LockId) {
    if !world.options.clocks_keep() || !world.believes(at) {
        return;
    }
    let Some(mine) = world.clients[at].app.held.get(&lock).cloned() else { return };
    for other in 0..world.clients.len() {
        if !world.believes(other) {
            continue;
        }
        for (theirs_id, theirs) in &world.clients[other].app.held {
            let same = other == at && *theirs_id == lock;
            // [GROUP-2] Members of a group share.
            let shared = mine.group.is_some() && mine.group == theirs.group;
            if same || shared || theirs.name != mine.name || world.modes.compatible(mine.mode, theirs.mode) {
                continue;
            }
            let what = format!("client {at} believes in {mine:?} beside client {other} in {theirs:?}");
            return world.judge.fail(Code::I2, &what);
        }
    }
}
