//! Commands as they are applied: what the members agree on changes, and this node with it.

use alloc::{boxed::Box, vec::Vec};

use lockstead_cluster::{Change, Command, State};
use lockstead_types::{ConnId, NodeId, SessionId, Slot, SlotSet, Time, peer::Incarnation};

use super::up_nodes;
use crate::cluster_ops::is_order;
use crate::node::Node;

impl Node {
    /// A member's first steps: what its own start has brought it.
    pub(crate) fn join(&mut self, now: Time) {
        let Some(member) = &self.member else { return };
        self.table.set_slot_seed(member.state.seed);
        let mine = |slot: &Slot| {
            let entry = member.state.slots.get(usize::from(slot.0));
            entry.is_some_and(|e| e.master == member.me && e.incarnation == member.incarnation)
        };
        // [CLUSTER-7] Its start made it master of them: others report what is held there.
        let mine: SlotSet = Slot::all().filter(mine).collect();
        self.rest();
        self.begin_recovery(now, mine, &[]);
        self.report_nothing(now);
        self.settle(now);
    }

    /// The next command of the log.
    pub(crate) fn on_committed(&mut self, now: Time, command: &Command) {
        let Some(member) = &mut self.member else { return };
        member.settle_uses(command);
        match member.state.apply(command) {
            Ok(changes) => {
                member.welcome_uses(now, command);
                for change in changes {
                    self.on_change(now, change);
                }
                self.settle_keep(now, command, None);
                match command {
                    order if is_order(order) => self.settle_cluster_order(order, None),
                    other => self.settle_space_command(other),
                }
            }
            Err(why) => {
                self.on_refused_command(now, command);
                self.settle_keep(now, command, Some(why));
                match command {
                    order if is_order(order) => self.settle_cluster_order(order, Some(why)),
                    other => self.on_refused_space_command(other, why),
                }
            }
        }
        self.end_strangers(now);
        // This start of the node may have been put out.
        self.look_at_authority(now);
    }

    fn on_change(&mut self, now: Time, change: Change) {
        match change {
            Change::Epoch { moved } => self.on_epoch(now, &moved),
            Change::SessionOpened { session } => self.on_session_opened(now, session),
            Change::SessionRehomed { session, from } => {
                self.await_rehomed(session, from);
                self.on_session_rehomed(now, session);
            }
            Change::SessionEnded { session, generation, why, .. } => {
                self.on_session_ended(now, session, generation, why);
            }
            Change::SpaceCreated { space } => self.on_space_created(space),
            // What is in it may go on; this node drops one only when it is empty, and by force.
            Change::SpaceClosing { .. } => {}
            Change::SpaceDropped { space } => self.on_space_dropped(now, space),
        }
    }

    /// This node fell so far behind that it gets the state whole. Whatever changed in between it has not seen, so everything it
    /// knew as master is void: it starts anew as another incarnation.
    pub(crate) fn on_snapshot(&mut self, now: Time, state: Box<State>) {
        let Some(member) = &mut self.member else { return };
        if state.version <= member.state.version {
            return;
        }
        member.state = *state;
        let me = member.me;
        if let Some(myself) = member.state.members.get_mut(&me) {
            // Until it has started anew, as far as this node is concerned it is out.
            myself.state = lockstead_cluster::MemberState::Down;
        }
        self.look_at_authority(now);
    }

    /// A new epoch: members came or went, slots have new masters.
    fn on_epoch(&mut self, now: Time, moved: &[(Slot, NodeId, Incarnation)]) {
        let Some(member) = &mut self.member else { return };
        self.table.set_epoch(member.state.epoch);
        self.drop_dead_links();
        let Some(member) = &mut self.member else { return };
        let mine = |slot: Slot| {
            let entry = member.state.slots.get(usize::from(slot.0));
            entry.is_some_and(|e| e.master == member.me && e.incarnation == member.incarnation)
        };
        let (me, incarnation) = (member.me, member.incarnation);
        let was_mine = |node: NodeId, i: Incarnation| node == me && i == incarnation;
        let gained: SlotSet = moved.iter().map(|(slot, ..)| *slot).filter(|s| mine(*s)).collect();
        let lost: SlotSet = moved.iter().filter(|(_, node, i)| was_mine(*node, *i)).map(|(slot, ..)| *slot).collect();
        self.forget_places(moved);
        let given = self.give_up(now, &lost);
        let undone = self.forget_kept(&lost);
        self.revise_recoveries(now, &lost);
        self.begin_recovery(now, gained, moved);
        self.end_stray_guests(now);
        self.revise_asks(now);
        self.report(now, moved, given);
        for (to, message) in undone {
            self.send_peer(now, to, message);
        }
        self.watch_again(now);
        self.send_unsent(now);
    }

    /// Links to starts of nodes that are no longer members end with everything in them ([CLUSTER-2]).
    fn drop_dead_links(&mut self) {
        let Some(member) = &mut self.member else { return };
        let dead: Vec<NodeId> = member
            .links
            .iter()
            .filter(|(node, link)| !member.state.is_up(**node, link.incarnation))
            .map(|(node, _)| *node)
            .collect();
        for node in dead {
            let conn: Option<ConnId> =
                self.member.as_mut().and_then(|m| m.links.remove(&node)).and_then(|l| l.conn).map(|c| c.conn);
            if let Some(conn) = conn {
                self.close_peer(conn);
            }
        }
    }

    /// Where locks are at masters that are gone nobody will say any more. Those of living ones are forgotten as they are reported.
    fn forget_places(&mut self, moved: &[(Slot, NodeId, Incarnation)]) {
        let Some(member) = &mut self.member else { return };
        let mut former: Vec<(NodeId, Incarnation)> = moved.iter().map(|(_, node, start)| (*node, *start)).collect();
        former.sort_unstable();
        former.dedup();
        for (node, start) in former {
            if !member.state.is_up(node, start) {
                member.copies.forget_master(node);
            }
        }
    }

    /// Guests of homes that are gone whose sessions are not in the directory: they ended before their home could say so.
    fn end_stray_guests(&mut self, now: Time) {
        let Some(member) = &self.member else { return };
        let up = up_nodes(&member.state);
        let stray =
            |session: &SessionId, home: &NodeId| !member.state.sessions.contains_key(session) && !up.contains(home);
        let gone: Vec<SessionId> =
            member.guests.iter().filter(|(_, g)| stray(&g.session, &g.home)).map(|(_, g)| g.session).collect();
        for session in gone {
            self.end_guest(now, session, lockstead_table::Ending::Crash);
        }
    }

    /// Sessions in the directory without a home, for status.
    #[must_use]
    pub fn homeless_sessions(&self) -> usize {
        self.member.as_ref().map_or(0, |m| m.state.homeless().count())
    }
}
