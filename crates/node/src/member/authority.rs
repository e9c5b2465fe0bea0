//! When this node may act at all.
//!
//! The group has put no other in its place as long as its authority lasts. Without it nothing is granted, converted, ended
//! or answered ([CLUSTER-1]): messages of other nodes wait in their links, clients are turned away so that they look for
//! another node while their leases last.

use alloc::vec::Vec;

use lockstead_types::{ConnId, SlotSet, Time, message::Rejection};

use crate::node::Node;

impl Node {
    pub(crate) fn on_authority(&mut self, now: Time, until: Time) {
        if let Some(member) = &mut self.member {
            member.authority = member.authority.max(until);
        }
        self.look_at_authority(now);
    }

    /// Whether this node may act now. A node alone always may.
    pub(crate) fn may_act(&self) -> bool {
        self.member.as_ref().is_none_or(|m| m.acting)
    }

    /// Before anything else is handled: the authority may have lapsed since.
    pub(crate) fn look_at_authority(&mut self, now: Time) {
        let Some(member) = &mut self.member else { return };
        // [CLUSTER-1]
        let acting = now < member.authority && member.state.is_up(member.me, member.incarnation);
        #[cfg(feature = "planted")]
        let acting = acting
            || (member.acting
                && member.state.is_up(member.me, member.incarnation)
                && lockstead_types::planted::is(lockstead_types::planted::Bug::ActsOn));
        let before = core::mem::replace(&mut member.acting, acting);
        if before && !acting {
            self.rest();
        } else if acting && !before {
            self.act(now);
        }
    }

    /// Nothing is granted, also not to those that wait when a lock is released meanwhile.
    pub(crate) fn rest(&mut self) {
        self.table.freeze_slots(&SlotSet::FULL);
        self.turn_all_away();
    }

    fn act(&mut self, now: Time) {
        self.resume_recoveries(now);
        let Some(member) = &self.member else { return };
        let mut settled = SlotSet::FULL;
        settled.remove_all(&member.recoveries.slots());
        self.table.thaw_slots(now, &settled, &mut self.fx);
        self.keep_thawed(now);
        self.tell_effects(now);
        self.admit_joiners(now);
        self.send_unsent(now);
    }

    fn turn_all_away(&mut self) {
        let conns: Vec<ConnId> = self.conns.ids();
        for conn in conns {
            self.reject(conn, Rejection::NoAuthority);
        }
        if let Some(member) = &mut self.member {
            member.arrivals.clear();
        }
    }
}
