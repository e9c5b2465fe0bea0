//! What must hold between the parts of a node after every step.

use lockstead_types::LockId;

use crate::{conn::ConnState, groups::Waiter, ledger::Pend, node::Node, owners::Whose, session::Stage};

impl Node {
    pub(crate) fn check_all(&self) -> Result<(), &'static str> {
        self.sessions.check()?;
        self.conns.check()?;
        self.manies.check(&self.sessions)?;
        self.sessions.iter().filter_map(|(_, s)| s.extra()?.tree.as_deref()).try_for_each(|tree| tree.check())?;
        self.watches.check(&self.sessions)?;
        self.spaces.check(&self.table)?;
        self.check_links()?;
        self.check_groups()?;
        self.check_group_waits()?;
        if !self.fx.is_empty() {
            return Err("effects were not told");
        }
        self.check_member()?;
        let missing = self.sessions.iter().filter(|(_, s)| s.stage == Stage::Returning).count();
        if self.is_member() {
            return Ok(());
        }
        if missing as u64 != u64::from(self.restart.missing()) {
            return Err("sessions of before the restart are miscounted");
        }
        if self.table.is_frozen() != (missing > 0) {
            return Err("frozen without anybody to wait for, or not frozen though somebody is missing");
        }
        if self.reports.len() > self.config.limits.deadlock_reports as usize {
            return Err("more deadlock reports than allowed");
        }
        Ok(())
    }

    /// Sessions, connections and owners point at each other.
    fn check_links(&self) -> Result<(), &'static str> {
        for (at, session) in self.sessions.iter() {
            if self.owners.get(session.owner) != Whose::Session(at) {
                return Err("a session's owner is another's");
            }
            if let Some(conn) = session.conn
                && self.conns.get(conn).is_none_or(|c| c.state != ConnState::Open(at))
            {
                return Err("a session's connection carries another");
            }
            if session.ledger.in_flight() > u64::from(self.config.limits.in_flight) {
                return Err("a session has more in flight than its credit");
            }
        }
        for (conn, value) in self.conns.iter() {
            if let ConnState::Open(at) = value.state
                && self.sessions.get(at).is_none_or(|s| s.conn != Some(conn))
            {
                return Err("a connection carries a session that has another");
            }
        }
        let owners = self.owners.iter().filter(|(_, whose)| *whose != Whose::Nobody).count();
        let guests = self.member.as_ref().map_or(0, |m| m.guests.len());
        if owners != self.sessions.len() + self.groups.len() + guests {
            return Err("owners without session or group");
        }
        Ok(())
    }

    fn check_groups(&self) -> Result<(), &'static str> {
        let mut locks = 0;
        for (number, group) in &self.groups.map {
            if self.owners.get(group.owner) != Whose::Group(*number) {
                return Err("a group's owner is another's");
            }
            if group.members.is_empty() {
                return Err("a group without members");
            }
            for (at, member) in &group.members {
                if !self.groups_of(*at).is_some_and(|groups| groups.contains(number)) {
                    return Err("a member does not know its group");
                }
                let known = |lock| group.locks.get(lock).is_some_and(|l| l.users.contains(at));
                if !member.uses.iter().all(|(lock, count)| *count > 0 && known(lock)) {
                    return Err("a member uses a lock the group has not");
                }
            }
            for (lock, shared) in &group.locks {
                locks += 1;
                if self.groups.locks.get(lock) != Some(number) {
                    return Err("a group's lock is not found");
                }
                if shared.held.is_some() == shared.users.is_empty() {
                    return Err("a group's lock is held without users, or used without being held");
                }
                if shared.held.is_none() && shared.waiters.is_empty() {
                    return Err("a group waits for a lock that no member waits for");
                }
                let uses = |at| group.members.get(at).is_some_and(|member| member.uses.contains_key(lock));
                if !shared.users.iter().all(uses) {
                    return Err("a user of a group's lock is no member");
                }
            }
        }
        if locks != self.groups.locks.len() {
            return Err("a lock of a group that is gone");
        }
        let of_guests = self.member.iter().flat_map(|m| m.guests.iter()).map(|(_, guest)| guest.groups.len());
        let extras = self.sessions.iter().filter_map(|(_, s)| s.extra()).filter(|_| !self.is_member());
        let known: usize = of_guests.chain(extras.map(|e| e.groups.len())).sum();
        let members: usize = self.groups.map.values().map(|g| g.members.len()).sum();
        if known != members { Err("a session knows a group that does not know it") } else { Ok(()) }
    }

    /// The groups a session, or a guest, knows itself to be a member of.
    fn groups_of(&self, at: u32) -> Option<&alloc::collections::BTreeSet<u32>> {
        match &self.member {
            Some(member) => member.guests.get(at).map(|guest| &guest.groups),
            None => self.sessions.get(at).and_then(|s| s.extra()).map(|extra| &extra.groups),
        }
    }

    fn check_group_waits(&self) -> Result<(), &'static str> {
        let (mut timed, mut waiters, mut noted) = (0, 0, 0);
        for (number, group) in &self.groups.map {
            for (lock, shared) in &group.locks {
                for waiter in shared.waiters.iter().chain(&shared.joiners) {
                    waiters += 1;
                    let of = (*number, *lock);
                    if !self.waits_for(of, waiter) {
                        return Err("a group's waiter does not wait");
                    }
                    let waits = group.members.get(&waiter.at).is_some_and(|m| m.waits.contains(&(*lock, waiter.id)));
                    if !waits {
                        return Err("a group's waiter is no member");
                    }
                    let Some(until) = waiter.until else { continue };
                    timed += 1;
                    if self.groups.timers.get(&(until, waiter.at, waiter.id)) != Some(lock) {
                        return Err("a group's waiter has no timer");
                    }
                }
                if !shared.joiners.is_empty() && !self.groups.joined.contains(lock) {
                    return Err("nobody will look at who joins in");
                }
            }
            noted += group.members.values().map(|member| member.waits.len()).sum::<usize>();
        }
        if timed != self.groups.timers.len() {
            return Err("a timer of no waiter");
        }
        let of_group = |pend: Pend| matches!(pend, Pend::Group { .. });
        let waits: usize =
            self.sessions.iter().map(|(_, s)| s.ledger.waits().filter(|w| of_group(w.pend)).count()).sum();
        let same = noted == waiters && (waits == waiters || self.is_member());
        if same { Ok(()) } else { Err("a session waits for a group that does not know it") }
    }

    fn waits_for(&self, (group, lock): (u32, LockId), waiter: &Waiter) -> bool {
        match &self.member {
            Some(member) => member.guests.get(waiter.at).is_some_and(|guest| {
                let left = guest.left.values().any(|wait| *wait == (waiter.id, lock));
                left || guest.waits.get(&waiter.id).is_some_and(|wait| wait.lock == lock)
            }),
            None => {
                let pend = self.sessions.get(waiter.at).and_then(|s| s.ledger.waiting(waiter.id)).map(|w| w.pend);
                pend == Some(Pend::Group { group, lock })
            }
        }
    }
}
