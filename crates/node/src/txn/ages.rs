//! How old a transaction is, where that decides who waits: told to each master before the first request of the transaction there, and
//! what comes back when it must give way.

use alloc::collections::BTreeSet;

use lockstead_table::OwnerId;
use lockstead_types::{
    Age, NodeId, SessionId, Time,
    peer::{HomeGeneration, PeerMessage},
};

use crate::{member::up_nodes, node::Node, owners::Whose};

impl Node {
    /// A node alone has one table, which is told at once.
    pub(super) fn set_age(&mut self, now: Time, at: u32, age: Option<Age>) {
        if self.is_member() {
            return;
        }
        if let Some(owner) = self.sessions.get(at).map(|s| s.owner) {
            self.table.set_owner_age(now, owner, age, &mut self.fx);
        }
    }

    /// [PREVENT-7] Tells a master how old the session's transaction is, if it does not know and may want to. [DEAD-17] Everywhere else one that
    /// is tried for the first time is taken for the youngest, and nobody told.
    pub(crate) fn tell_age(&mut self, now: Time, at: u32, master: NodeId, who: (SessionId, HomeGeneration)) {
        // On the way of every request to its master: what is seldom is asked first, and all lockspaces are looked at for nobody else.
        let untold = self.txn(at).filter(|txn| !txn.told.contains(&master));
        if !untold.is_some_and(|txn| txn.again || self.spaces.prevents()) {
            return;
        }
        let Some(txn) = self.txn_mut(at) else { return };
        txn.told.insert(master);
        let (age, (session, home)) = (Some(txn.age), who);
        self.send_peer(now, master, PeerMessage::Aged { session, home, age });
    }

    /// A session that has come here in no transaction may have been in one at its former home, which has not told all masters of its end.
    pub(crate) fn tell_no_age(&mut self, now: Time, at: u32) {
        if self.txn(at).is_some() || !self.spaces.prevents() {
            return;
        }
        let nodes = self.member.as_ref().map(|m| up_nodes(&m.state)).unwrap_or_default();
        for master in nodes {
            if let Some((session, home)) = self.introduce(now, at, master) {
                self.send_peer(now, master, PeerMessage::Aged { session, home, age: None });
            }
        }
    }

    /// [DEAD-17] A session has come to a new home, which says again how old its transaction is, where it is in one still. Where ages say who
    /// may wait, what the former one said goes on until then.
    pub(crate) fn forget_age_of_former(&mut self, now: Time, owner: OwnerId) {
        if !self.spaces.prevents() {
            self.table.set_owner_age(now, owner, None, &mut self.fx);
        }
    }

    /// A master that starts anew knows no age.
    pub(crate) fn untell_age(&mut self, at: u32, master: NodeId) {
        if let Some(txn) = self.txn_mut(at) {
            txn.told.remove(&master);
        }
    }

    /// The transaction is over.
    pub(super) fn forget_age(&mut self, now: Time, at: u32, told: BTreeSet<NodeId>) {
        self.set_age(now, at, None);
        for master in told {
            if let Some((session, home)) = self.introduce(now, at, master) {
                self.send_peer(now, master, PeerMessage::Aged { session, home, age: None });
            }
        }
    }

    /// A home says how old a transaction of one of its sessions is.
    pub(crate) fn on_aged(&mut self, now: Time, (session, home): (SessionId, HomeGeneration), age: Option<Age>) {
        let Some(at) = self.guest_of(session, home) else { return };
        if let Some(owner) = self.guest_owner(at) {
            self.table.set_owner_age(now, owner, age, &mut self.fx);
            // Its former home may not have lived to hear it.
            if self.table.is_wounded(owner) {
                self.tell_guest_wounded(now, at, owner);
            }
            self.tell_effects(now);
        }
    }

    fn tell_guest_wounded(&mut self, now: Time, at: u32, owner: OwnerId) {
        let Some(age) = self.table.age_of(owner) else { return };
        let Some(guest) = self.member.as_ref().and_then(|m| m.guests.get(at)) else { return };
        let (session, home, to) = (guest.session, guest.generation, guest.home);
        self.tell_home(now, None, to, PeerMessage::Wounded { session, home, age });
    }

    /// A master says that a transaction must give way.
    pub(crate) fn on_wounded(&mut self, now: Time, (session, home): (SessionId, HomeGeneration), age: Age) {
        let Some(at) = self.session_here(session, home) else { return };
        #[cfg(feature = "planted")]
        if lockstead_types::planted::is(lockstead_types::planted::Bug::WoundLost) {
            return;
        }
        // The session may have gone on to its next transaction.
        if self.txn(at).is_some_and(|txn| txn.age == age) {
            self.abort_txn(now, at);
            self.tell_effects(now);
        }
    }

    /// [PREVENT-3] An older transaction waits for what this one holds.
    pub(crate) fn tell_wounded(&mut self, now: Time, owner: OwnerId) {
        match self.owners.get(owner) {
            Whose::Session(at) => self.abort_txn(now, at),
            Whose::Guest(at) => self.tell_guest_wounded(now, at, owner),
            Whose::Group(_) | Whose::Ended(_) | Whose::Nobody => {}
        }
    }
}
