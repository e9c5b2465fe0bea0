//! What must hold between the parts of a member after every step.

use super::forward::What;
use crate::{ledger::Pend, node::Node, owners::Whose};

impl Node {
    pub(crate) fn check_member(&self) -> Result<(), &'static str> {
        let Some(member) = &self.member else { return Ok(()) };
        let master_of = |slot: lockstead_types::Slot| {
            let entry = member.state.slots.get(usize::from(slot.0)).filter(|_| !member.is_reporting(slot));
            entry.map(|entry| entry.master)
        };
        member.copies.check(master_of)?;
        let members_of = |group: u32| {
            let extras = self.sessions.iter().filter_map(|(_, s)| s.extra());
            extras.filter(|extra| extra.groups.contains(&group)).count()
        };
        member.attached.check(members_of)?;
        if member.acting && !member.loopback.is_empty() && !member.pausing {
            return Err("a message of this node to itself was not handled");
        }
        for (at, guest) in member.guests.iter() {
            if self.owners.get(guest.owner) != Whose::Guest(at) {
                return Err("a guest's owner is another's");
            }
        }
        for (at, copy) in member.copies.iter() {
            if self.sessions.get(copy.session).is_none() {
                return Err("a copy of no session");
            }
            let waits = |id| member.forwards.map.get(&(copy.session, id));
            if let Some(id) = copy.wait
                && waits(id).is_none_or(|f| f.copy != Some(at) && f.what.copy() != Some(at))
            {
                return Err("a copy waits for a request that is gone");
            }
        }
        for ((at, id), forward) in &member.forwards.map {
            let Some(session) = self.sessions.get(*at) else { return Err("a request on its way of no session") };
            if let Some(copy) = forward.what.copy().or(forward.copy)
                && member.copies.get(copy).is_none_or(|c| c.session != *at)
            {
                return Err("a request on its way about a lock that is gone");
            }
            let told = forward.whose == super::For::Client
                && !matches!(forward.what, What::Claim(_) | What::Release { one_way: true, .. });
            if told && session.ledger.waiting(*id).map(|w| w.pend) != Some(Pend::Forward) {
                return Err("a request on its way that nobody waits for");
            }
        }
        Ok(())
    }
}
