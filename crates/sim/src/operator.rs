//! What operators do to a cluster under fire: they let nodes in late, drain them and take them out, remove those that are down, give
//! up a lost majority, and leave a minority dead for good.

use lockstead_cluster::{Command, State};

use crate::{
    group::id_of,
    nodes::Death,
    options::Fault,
    queue::Event,
    world::{MS, Phase, SEC, World},
};

/// Something an operator keeps at until it is done.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Deed {
    /// A node that is down is forgotten; it is let in again when it starts.
    Remove,
    /// A node that drains is taken out once it masters nothing.
    Leave,
    /// The lost majority is given up.
    Force,
}

/// How far the epoch jumps.
const JUMP: u32 = 1 << 16;
const AGAIN: u64 = 300 * MS;

impl World {
    fn plan_deed(&mut self, after: u64, deed: Deed, node: usize) {
        let life = self.nodes[node].life;
        self.queue.push(self.now + after, Event::Operator { deed, node: node as u8, life });
    }

    /// `life`: of the node's process when this was begun.
    pub(crate) fn on_operator(&mut self, deed: Deed, node: u8, life: u32) {
        let at = usize::from(node);
        match deed {
            Deed::Remove => {
                let known = self.group.state.members.contains_key(&id_of(at));
                if known && !self.nodes[at].running && self.nodes[at].life == life {
                    self.propose(None, Command::Remove { node: id_of(at) });
                    self.plan_deed(AGAIN, deed, at);
                }
            }
            Deed::Leave => self.go_on_leaving(at, life),
            Deed::Force => self.force_quorum(),
        }
    }

    /// A member is down for so long that somebody takes it out.
    pub(crate) fn remove_node(&mut self, at: usize) {
        let away = self.dice[Fault::Remove as usize].between(5 * SEC, 12 * SEC);
        self.kill_node(at, Death::Killed);
        self.nodes[at].away_until = self.now + away;
        self.plan_deed(SEC, Deed::Remove, at);
    }

    /// A member is drained, and then leaves.
    pub(crate) fn leave_node(&mut self, at: usize) {
        let Some(incarnation) = self.nodes[at].incarnation else { return };
        if self.group.state.masters().count() > 1 {
            self.propose(None, Command::Drain { node: id_of(at), incarnation });
            self.plan_deed(AGAIN, Deed::Leave, at);
        }
    }

    fn go_on_leaving(&mut self, at: usize, life: u32) {
        let me = id_of(at);
        let Some(incarnation) = self.nodes[at].incarnation.filter(|_| self.nodes[at].life == life) else { return };
        if self.phase != Phase::Fire {
            return;
        }
        if self.group.state.slots.iter().any(|slot| slot.master == me) {
            return self.plan_deed(AGAIN, Deed::Leave, at);
        }
        // It does nothing more, and says so.
        self.trace.say(self.now, format_args!("node {at} leaves"));
        self.kill_node(at, Death::Killed);
        self.nodes[at].away_until = self.now + 3 * SEC;
        self.propose(None, Command::Evict { node: me, incarnation });
        self.plan_deed(AGAIN, Deed::Remove, at);
    }

    /// More than half of the voters are lost for good.
    pub(crate) fn lose_majority(&mut self) {
        let voters = self.group.voters.clone();
        let more = self.dice[Fault::Lose as usize].below(2) as usize;
        let lost = (voters.len() / 2 + 1 + more).min(voters.len().saturating_sub(1));
        let survivor_masters =
            |lost: &[usize]| self.group.state.masters().any(|(node, _)| !lost.contains(&(usize::from(node.0) - 1)));
        let chosen = &voters[..lost];
        if voters.len() < 3 || self.group.forced || !survivor_masters(chosen) {
            return;
        }
        let chosen = chosen.to_vec();
        self.trace.say(self.now, format_args!("nodes {chosen:?} are lost for good"));
        self.group.forced = true;
        for node in chosen {
            self.kill_node(node, Death::Power);
            self.nodes[node].lost = true;
        }
        // Until leases of clients of the lost nodes are over, if their sessions should be missing.
        let wait = 4 * SEC + u64::from(self.options.ttl) * MS * 11 / 10;
        self.plan_deed(wait, Deed::Force, 0);
    }

    /// The survivors are stopped, and the data of the one that knows most becomes the whole group.
    pub(crate) fn force_quorum(&mut self) {
        let survivors: Vec<usize> = (0..self.nodes.len()).filter(|node| !self.nodes[*node].lost).collect();
        if survivors.len() == self.nodes.len() {
            return;
        }
        survivors.iter().for_each(|node| self.kill_node(*node, Death::Killed));
        let best = survivors.iter().copied().max_by_key(|node| self.nodes[*node].applied);
        let known = best.map_or(0, |node| self.nodes[node].applied);
        let gone = self.group.log.len() - known;
        self.trace.say(self.now, format_args!("{survivors:?} are made the whole group; {gone} commands are lost"));
        self.group.rewind(known);
        self.group.voters = best.into_iter().collect();
        self.judge.now = self.now;
        self.judge.on_forced();
        self.propose_at_once(Command::RaiseEpoch { by: JUMP });
        for node in 0..self.nodes.len() {
            let host = &mut self.nodes[node];
            if host.lost {
                // What comes back in its place has nothing of it.
                host.lost = false;
                host.outside = true;
                (host.identity, host.epoch) = (host.identity + 1_000, 0);
                (host.replica, host.applied) = (State::default(), 0);
                host.away_until = self.now + self.dice[Fault::Lose as usize].between(6 * SEC, 15 * SEC);
                let (at, life) = (host.away_until, host.life);
                self.queue.push(at, Event::StartNode { node: node as u8, life });
                self.plan_deed(SEC, Deed::Remove, node);
            }
        }
    }

    /// Faults stop: what was lost is found again, if it was not given up yet, since leases that only its data knew of must be over
    /// before that is done; and of those that are down a minority may stay so.
    pub(crate) fn settle_losses(&mut self) {
        self.nodes.iter_mut().for_each(|host| host.lost = false);
        let down: Vec<usize> = (0..self.nodes.len()).filter(|node| !self.nodes[*node].running).collect();
        let voters = &self.group.voters;
        let dead_voters = down.iter().filter(|node| voters.contains(node)).count();
        let masters = self.group.state.masters().filter(|(id, _)| !down.contains(&(usize::from(id.0) - 1))).count();
        let enough = 2 * (voters.len() - dead_voters) > voters.len() && masters > 0;
        for node in down {
            self.nodes[node].away_until = self.nodes[node].away_until.min(self.now);
            if self.options.abandon && enough && !self.nodes[node].outside {
                self.trace.say(self.now, format_args!("node {node} stays dead"));
                self.nodes[node].abandoned = true;
                self.plan_deed(SEC, Deed::Remove, node);
            }
        }
    }
}
