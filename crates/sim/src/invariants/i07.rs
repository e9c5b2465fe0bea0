//! I7, from both sides: a decision against a client that believes, and a client that is told its lock is gone while its
//! lease is good.

use crate::{invariants::Code, judge::Row, world::World};

pub(crate) const STATEMENT: &str =
    "a granted lock with a live session is never given away, except by an operator's force that is on record";

/// Something was granted: nobody who was told of a conflicting grant may still count on it.
pub(crate) fn decided(world: &mut World, row: &Row, before: Option<&Row>) {
    let Some(mode) = row.held else { return };
    if !world.options.clocks_keep() {
        return;
    }
    for client in 0..world.clients.len() {
        if !world.believes(client) {
            continue;
        }
        for held in world.clients[client].app.held.values() {
            let same = held.token == row.token || before.is_some_and(|b| b.token == held.token);
            // Its own lock, converted: at a new master, or after a conversion of which it has not heard, by another token than
            // before. Two locks of one session are compared in the tables and when it is told.
            let own = held.converting && row.session == Some(world.clients[client].id);
            // Of a group's lock another user may know a newer token, and claim it first ([GROUP-9]).
            let shared = held.group.is_some() && held.group == row.group;
            if same || own || shared || held.name != row.name || world.modes.compatible(mode, held.mode) {
                continue;
            }
            let what = format!("{row:?} was decided while client {client} counts on {held:?}");
            return world.judge.fail(Code::I7, &what);
        }
    }
}
