//! The membership group as the nodes see it: one list of commands that nobody disputes, leases, and a leader with a steward. It
//! decides only while a leader reaches a majority; proposals may be lost or take long; each node learns in its own time.
//!
//! How consensus itself fails is not simulated: that is a library's. What a node has to bear from it is.

use std::collections::BTreeMap;

use lockstead_cluster::{Change, Command, Seat, State, Steward, StewardConfig};
use lockstead_types::{NodeId, Time, peer::Incarnation};

use crate::{
    options::{Fault, Options},
    queue::{Event, GroupEvent},
    random::Random,
    world::{MS, Phase, RHO_PPM, SEC, World},
};

pub(crate) struct Group {
    /// After everything committed.
    pub(crate) state: State,
    pub(crate) log: Vec<Command>,
    proposals: Vec<Proposal>,
    leader: Option<Leader>,
    /// How many leaders there were.
    term: u32,
    /// Since when there is none that leads.
    leaderless: u64,
    pub(crate) down_until: u64,
    pub(crate) slow_until: u64,
    pub(crate) loss_until: u64,
    pub(crate) random: Random,
    /// Who votes now: those that should, once each of them follows.
    pub(crate) voters: Vec<usize>,
    /// An operator has given up a majority, or is about to.
    pub(crate) forced: bool,
    /// What each epoch is, as the first node that came to it had it.
    pub(crate) epochs: BTreeMap<u32, u64>,
}

struct Leader {
    node: usize,
    life: u32,
    steward: Steward,
}

struct Proposal {
    /// Who proposed it; `None` for the leader's own and an operator's.
    from: Option<usize>,
    /// For a leader's own: the term in which it may be committed.
    term: Option<u32>,
    command: Command,
    tries: u32,
}

/// How often a member asks for its authority.
const RENEW_EVERY: u64 = 500 * MS;
const LEAD_EVERY: u64 = 100 * MS;

impl Group {
    pub(crate) fn new(options: &Options) -> Group {
        let seed = options.seed;
        let first = options.nodes.saturating_sub(options.late).max(1) as usize;
        let seats = (0..first).map(|node| seat(options, node, node as u128)).collect();
        let form = Command::Form { seed, key: [7; 32], seats, spaces: vec![options.space()] };
        let mut state = State::default();
        let formed = state.apply(&form);
        assert!(formed.is_ok(), "a cluster is formed: {formed:?}");
        Group {
            state,
            log: vec![form],
            proposals: Vec::new(),
            leader: None,
            term: 0,
            leaderless: 0,
            down_until: 0,
            voters: (0..first).collect(),
            forced: false,
            slow_until: 0,
            loss_until: 0,
            random: Random::new(seed, 3),
            epochs: BTreeMap::new(),
        }
    }

    /// Whether one of these starts has gone, and with it slots it was master of or sessions it was home of.
    fn took_along(&self, up: &[(NodeId, Incarnation)], changes: &[Change]) -> bool {
        let gone = |start: (NodeId, Incarnation)| up.contains(&start) && !self.state.is_up(start.0, start.1);
        let had = |change: &Change| match change {
            Change::Epoch { moved } => moved.iter().any(|(_, node, start)| gone((*node, *start))),
            _ => false,
        };
        changes.iter().any(had) || self.state.sessions.values().any(|entry| gone((entry.home, entry.incarnation)))
    }

    pub(crate) fn term(&self) -> u32 {
        self.term
    }

    /// Only the first commands ever were.
    pub(crate) fn rewind(&mut self, known: usize) {
        self.log.truncate(known);
        self.state = State::default();
        for command in &self.log {
            let _refused_is_an_answer_too = self.state.apply(command);
        }
        self.leader = None;
        self.term += 1;
    }

    /// Turns the leader out; the next one is another, where there is one.
    pub(crate) fn depose(&mut self) {
        self.leader = None;
    }
}

/// The seat of a node.
pub(crate) fn seat(options: &Options, node: usize, identity: u128) -> Seat {
    let witness = options.witness && options.nodes > 1 && node + 1 == options.nodes as usize;
    let weight = if options.weights { [100, 50, 300, 100, 200][node % 5] } else { 100 };
    Seat {
        node: id_of(node),
        identity,
        peer_address: format!("node-{node}:1"),
        client_address: format!("node-{node}:0"),
        weight: if witness { 0 } else { weight },
    }
}

pub(crate) fn id_of(node: usize) -> NodeId {
    NodeId(node as u16 + 1)
}

impl World {
    pub(crate) fn plan_group(&mut self, after: u64, event: GroupEvent) {
        self.queue.push(self.now + after, Event::Group(event));
    }

    pub(crate) fn on_group(&mut self, event: GroupEvent) {
        match event {
            GroupEvent::Proposed { number } => self.on_proposed(number),
            GroupEvent::Commit { number } => self.on_commit(number),
            GroupEvent::Apply { node, life } => self.on_apply(node, life),
            GroupEvent::Renew { node, life } => self.on_renew(node, life),
            GroupEvent::Receive { node, life, sent } => self.on_receive(node, life, sent),
            GroupEvent::Round { node, life, sent, received, term } => self.on_round(node, life, sent, (received, term)),
            GroupEvent::Authority { node, life, until, agreed } => self.on_authority(node, life, (until, agreed)),
            GroupEvent::Lead => self.on_lead(),
            GroupEvent::Dial { node, life } => self.on_dial(node, life),
            GroupEvent::Dialed { from, to, life } => self.on_dialed(from, to, life),
            GroupEvent::Join { node, life } => self.on_join(node, life),
        }
    }

    fn awake(&self, node: usize) -> bool {
        let host = &self.nodes[node];
        host.running && host.paused_until <= self.now
    }

    fn reach(&self, a: usize, b: usize) -> bool {
        !self.net.is_cut(self.now, a, b) && !self.net.is_cut(self.now, b, a)
    }

    /// Whether a node could get something committed: it and enough voters are awake and reach each other.
    fn has_majority(&self, node: usize) -> bool {
        let voters = &self.group.voters;
        let there = voters.iter().filter(|v| self.awake(**v) && self.reach(node, **v)).count();
        self.awake(node) && voters.contains(&node) && 2 * there > voters.len() && self.group.down_until <= self.now
    }

    pub(crate) fn leads(&self) -> Option<usize> {
        let leader = self.group.leader.as_ref()?;
        let same = self.nodes[leader.node].life == leader.life;
        (same && self.has_majority(leader.node)).then_some(leader.node)
    }

    fn takes(&mut self) -> u64 {
        let slow = self.group.slow_until > self.now;
        if slow { self.group.random.between(300 * MS, 3 * SEC) } else { self.group.random.between(MS, 10 * MS) }
    }

    /// A node, the leader or an operator proposes.
    pub(crate) fn propose(&mut self, from: Option<usize>, command: Command) {
        if self.trace.wants_text() {
            self.trace.say(self.now, format_args!("group: {from:?} proposes {}", short(&command)));
        }
        self.group.proposals.push(Proposal { from, term: None, command, tries: 0 });
        let number = self.group.proposals.len() as u32 - 1;
        let later = self.takes() / 2;
        self.plan_group(later, GroupEvent::Proposed { number });
    }

    /// What an operator writes into a stopped node's data.
    pub(crate) fn propose_at_once(&mut self, command: Command) {
        let applied = self.group.state.apply(&command);
        debug_assert!(applied.is_ok(), "{applied:?}");
        self.group.log.push(command);
    }

    fn on_proposed(&mut self, number: u32) {
        let from = self.group.proposals[number as usize].from;
        let lossy = self.group.loss_until > self.now;
        let lost = lossy && self.group.random.chance(500);
        let Some(leader) = self.leads() else { return };
        if lost || from.is_some_and(|from| !self.reach(from, leader)) {
            return self.trace.say(self.now, format_args!("group: proposal {number} is lost"));
        }
        let later = self.takes();
        self.plan_group(later, GroupEvent::Commit { number });
    }

    fn on_commit(&mut self, number: u32) {
        let term = self.group.term;
        let leads = self.leads().is_some();
        let proposal = &mut self.group.proposals[number as usize];
        if proposal.term.is_some_and(|own| own != term) {
            return;
        }
        if !leads {
            // It may yet be committed, also by the next leader; or not.
            proposal.tries += 1;
            let again = proposal.tries < 20 && self.group.random.chance(800);
            if again {
                self.plan_group(200 * MS, GroupEvent::Commit { number });
            }
            return;
        }
        let (command, proposal_term) = (proposal.command.clone(), proposal.term);
        let before = self.group.state.epoch;
        let up: Vec<_> = self.group.state.up().collect();
        let outcome = self.group.state.apply(&command);
        if outcome.as_ref().is_ok_and(|changes| self.group.took_along(&up, changes)) {
            self.judge.on_start_gone();
        }
        if self.trace.wants_text() {
            let outcome = outcome.as_ref().map(|changes| changes.iter().map(short_change).collect::<Vec<_>>());
            let epoch = self.group.state.epoch;
            self.trace.say(self.now, format_args!("group: commits {}: {outcome:?}, epoch {epoch}", short(&command)));
        }
        self.trace.mix(u64::from(self.group.state.epoch));
        if let (Ok(_), Some(_), Command::Evict { node, incarnation }) = (&outcome, proposal_term, &command) {
            self.judge_evicted(*node, *incarnation);
        }
        self.group.log.push(command);
        if self.group.state.epoch < before {
            self.judge.fail(crate::invariants::Code::I15, "the epoch went back");
        }
        for node in 0..self.nodes.len() {
            let life = self.nodes[node].life;
            if self.nodes[node].running {
                let lag = self.lag(node);
                self.plan_group(lag, GroupEvent::Apply { node: node as u8, life });
            }
        }
    }

    fn lag(&mut self, node: usize) -> u64 {
        let late = self.nodes[node].lags_until > self.now;
        if late { self.group.random.between(100 * MS, 3 * SEC) } else { self.group.random.between(100_000, 8 * MS) }
    }

    /// A node learns of what was committed, one command after the other, some at once, some apart.
    fn on_apply(&mut self, node: u8, life: u32) {
        let at = usize::from(node);
        let host = &self.nodes[at];
        if host.life != life || !host.running {
            return;
        }
        if host.paused_until > self.now {
            let wait = self.look_again(host.paused_until) - self.now;
            return self.plan_group(wait, GroupEvent::Apply { node, life });
        }
        let heard = self.leads().is_some_and(|leader| self.reach(at, leader));
        if !heard {
            if host.applied < self.group.log.len() {
                self.plan_group(100 * MS, GroupEvent::Apply { node, life });
            }
            return;
        }
        let behind = self.group.log.len() - host.applied;
        if behind > 10 && self.group.random.chance(300) {
            return self.take_snapshot(at);
        }
        while self.nodes[at].life == life && self.nodes[at].applied < self.group.log.len() {
            self.apply_next(at);
            if self.group.random.chance(200) && self.nodes[at].life == life {
                let lag = self.lag(at);
                return self.plan_group(lag, GroupEvent::Apply { node, life });
            }
        }
    }

    /// A node comes to the next command.
    fn apply_next(&mut self, at: usize) {
        let command = self.group.log[self.nodes[at].applied].clone();
        self.nodes[at].applied += 1;
        if self.nodes[at].node.is_some() {
            self.tell_node(at, lockstead_node::Input::Committed { command: &command });
        } else {
            let _refused_is_an_answer_too = self.nodes[at].replica.apply(&command);
        }
        self.after_apply(at);
    }

    fn take_snapshot(&mut self, at: usize) {
        self.nodes[at].applied = self.group.log.len();
        let state = Box::new(self.group.state.clone());
        self.trace.say(self.now, format_args!("node {at} takes a snapshot"));
        if self.nodes[at].node.is_some() {
            // Commands are missing, so it cannot go on: the process starts anew, from what the group says.
            self.tell_node(at, lockstead_node::Input::Snapshot { state: state.clone() });
            self.kill_node(at, crate::nodes::Death::Killed);
        }
        let own = state.members.get(&id_of(at)).is_some_and(|member| member.nonce == self.nodes[at].nonce);
        self.nodes[at].replica = *state;
        if own && self.nodes[at].node.is_none() {
            // More was agreed on since its start than it can be told: the process starts anew.
            self.kill_node(at, crate::nodes::Death::Killed);
        }
        self.after_apply(at);
    }

    fn after_apply(&mut self, at: usize) {
        self.judge_epoch(at);
        let host = &self.nodes[at];
        match &host.node {
            // Put out of the cluster: the process starts anew.
            Some(node) if node.is_out() => self.kill_node(at, crate::nodes::Death::Killed),
            Some(_) => {}
            None => {
                let member = host.replica.members.get(&id_of(at));
                let started = member.filter(|m| m.nonce == host.nonce && host.replica.is_up(id_of(at), m.incarnation));
                if let (true, Some(incarnation)) = (host.running, started.map(|m| m.incarnation)) {
                    self.begin_member(at, incarnation);
                }
            }
        }
    }

    /// A process that is no member yet proposes its start.
    fn on_join(&mut self, node: u8, life: u32) {
        let at = usize::from(node);
        let host = &self.nodes[at];
        if host.life != life || !host.running || host.node.is_some() {
            return;
        }
        if host.paused_until <= self.now {
            let command = Command::Start {
                node: id_of(at),
                identity: host.identity,
                nonce: host.nonce,
                after: self.group.state.members.get(&id_of(at)).map_or(0, |member| member.nonce),
                peer_address: String::new(),
                client_address: String::new(),
            };
            let known = self.group.state.members.get(&id_of(at)).map(|m| m.identity);
            if known != Some(host.identity) {
                // Its data was lost: an operator lets it in again, once the former one is out.
                let seat = seat(&self.options, at, host.identity);
                self.propose(None, Command::Admit { seat });
            }
            self.propose(Some(at), command);
            self.plan_group(MS, GroupEvent::Apply { node, life });
        }
        self.plan_group(400 * MS, GroupEvent::Join { node, life });
    }

    fn on_renew(&mut self, node: u8, life: u32) {
        let at = usize::from(node);
        let host = &self.nodes[at];
        if host.life != life || host.node.is_none() {
            return;
        }
        if host.paused_until > self.now {
            let wait = self.look_again(host.paused_until) - self.now;
            return self.plan_group(wait, GroupEvent::Renew { node, life });
        }
        self.plan_group(RENEW_EVERY, GroupEvent::Renew { node, life });
        if self.nodes[at].renewing {
            return;
        }
        let sent = self.clocks[at].at(self.now).as_nanos();
        if let Some(leader) = self.leads()
            && !self.net.is_cut(self.now, at, leader)
        {
            let takes = self.net.latency(self.now, at, leader);
            self.plan_group(takes, GroupEvent::Receive { node, life, sent });
        }
    }

    /// A renewal reaches the leader, which asks a quorum whether it still is.
    fn on_receive(&mut self, node: u8, life: u32, sent: u64) {
        let Some(leader) = self.leads() else { return };
        let received = self.clocks[leader].at(self.now).as_nanos();
        let takes = self.takes();
        let term = self.group.term;
        self.plan_group(takes, GroupEvent::Round { node, life, sent, received, term });
    }

    fn on_round(&mut self, node: u8, life: u32, sent: u64, (received, term): (u64, u32)) {
        let at = usize::from(node);
        let Some(leader) = self.leads() else { return };
        let Some(incarnation) = self.nodes[at].incarnation.filter(|_| self.nodes[at].life == life) else { return };
        if term != self.group.term {
            return;
        }
        let state = &self.group.state;
        let Some(leading) = &mut self.group.leader else { return };
        let received = Time::from_nanos(received);
        if !leading.steward.on_renewal(received, state, id_of(at), incarnation) || self.net.is_cut(self.now, leader, at)
        {
            return;
        }
        let t_auth = StewardConfig::default().t_auth;
        let rho = u64::from(RHO_PPM);
        let span = t_auth.scaled(1_000_000 - rho, 1_000_000 + rho).as_nanos() - 10 * MS;
        let takes = self.net.latency(self.now, leader, at);
        #[cfg(feature = "planted")]
        let (sent, span) = self.misjudge((sent, span), at, takes);
        let agreed = self.group.log.len();
        self.nodes[at].renewing = true;
        self.plan_group(takes, GroupEvent::Authority { node, life, until: sent + span, agreed });
    }

    /// What a shell gets wrong that takes more authority than it was given.
    #[cfg(feature = "planted")]
    fn misjudge(&self, (sent, span): (u64, u64), at: usize, takes: u64) -> (u64, u64) {
        use lockstead_types::planted::{Bug, is};
        if is(Bug::AuthorityUndiscounted) {
            (sent, StewardConfig::default().t_auth.as_nanos())
        } else if is(Bug::AuthorityFromAnswer) {
            (self.clocks[at].at(self.now + takes).as_nanos(), span)
        } else {
            (sent, span)
        }
    }

    fn on_authority(&mut self, node: u8, life: u32, (until, agreed): (u64, usize)) {
        let at = usize::from(node);
        let host = &self.nodes[at];
        if host.life != life {
            return;
        }
        if host.paused_until > self.now {
            let wait = self.look_again(host.paused_until) - self.now;
            return self.plan_group(wait, GroupEvent::Authority { node, life, until, agreed });
        }
        // [MEMBER-13]
        if host.applied < agreed {
            return self.plan_group(MS, GroupEvent::Authority { node, life, until, agreed });
        }
        self.nodes[at].renewing = false;
        self.tell_node(at, lockstead_node::Input::Authority { until: Time::from_nanos(until) });
    }

    /// The leader's steward is asked; or a leader is looked for.
    fn on_lead(&mut self) {
        self.plan_group(LEAD_EVERY, GroupEvent::Lead);
        let Some(leader) = self.leads() else { return self.elect() };
        self.group.leaderless = 0;
        self.change_voters(leader);
        let now = self.clocks[leader].at(self.now);
        let Some(leading) = &mut self.group.leader else { return };
        let commands = leading.steward.poll(now, &self.group.state);
        for command in commands {
            if self.trace.wants_text() {
                self.trace.say(self.now, format_args!("group: the steward proposes {}", short(&command)));
            }
            let term = Some(self.group.term);
            self.group.proposals.push(Proposal { from: None, term, command, tries: 0 });
            let number = self.group.proposals.len() as u32 - 1;
            let later = self.takes();
            self.plan_group(later, GroupEvent::Commit { number });
        }
    }

    /// The leader brings the group's configuration to what it should be, where all who should vote follow it.
    fn change_voters(&mut self, leader: usize) {
        let now = self.group.voters.iter().map(|node| id_of(*node)).collect();
        let wanted: Vec<usize> = self.group.state.voters_wanted(&now).iter().map(|id| usize::from(id.0) - 1).collect();
        let follows = |node: &usize| self.awake(*node) && self.reach(leader, *node) && !self.nodes[*node].outside;
        let able = wanted.iter().all(|node| self.group.voters.contains(node) || follows(node));
        if able && !wanted.is_empty() && wanted != self.group.voters {
            self.trace.say(self.now, format_args!("group: {wanted:?} vote"));
            self.group.voters = wanted;
        }
    }

    fn elect(&mut self) {
        if self.group.leaderless == 0 {
            self.group.leaderless = self.now;
        }
        let patience = if self.group.leader.is_some() { 700 * MS } else { 200 * MS };
        if self.now - self.group.leaderless < patience {
            return;
        }
        let able: Vec<usize> = (0..self.nodes.len()).filter(|node| self.has_majority(*node)).collect();
        if able.is_empty() {
            return;
        }
        let node = self.group.random.pick(&able);
        let now = self.clocks[node].at(self.now);
        self.group.term += 1;
        let steward = Steward::new(StewardConfig::default(), now);
        self.group.leader = Some(Leader { node, life: self.nodes[node].life, steward });
        self.group.leaderless = 0;
        self.trace.say(self.now, format_args!("group: node {node} leads, term {}", self.group.term));
    }

    /// A node's shell looks whom to connect to.
    fn on_dial(&mut self, node: u8, life: u32) {
        let at = usize::from(node);
        let host = &self.nodes[at];
        if host.life != life {
            return;
        }
        let awake = host.node.as_ref().filter(|_| host.paused_until <= self.now);
        let wanted = awake.map(|known| known.peers_wanted()).unwrap_or_default();
        self.plan_group(100 * MS, GroupEvent::Dial { node, life });
        for (to, _) in wanted {
            let there = usize::from(to.0) - 1;
            if self.nodes[at].dialing & (1 << there) == 0 && self.reach(at, there) {
                self.nodes[at].dialing |= 1 << there;
                let takes = self.net.latency(self.now, at, there) + self.net.latency(self.now, there, at);
                self.plan_group(takes, GroupEvent::Dialed { from: node, to: there as u8, life });
            }
        }
    }

    fn on_dialed(&mut self, from: u8, to: u8, life: u32) {
        let (at, there) = (usize::from(from), usize::from(to));
        if self.nodes[at].life != life {
            return;
        }
        if self.nodes[at].paused_until > self.now {
            let wait = self.look_again(self.nodes[at].paused_until) - self.now;
            return self.plan_group(wait, GroupEvent::Dialed { from, to, life });
        }
        self.nodes[at].dialing &= !(1 << there);
        if self.nodes[there].node.is_some() && self.reach(at, there) {
            self.join_peers(at, there);
        }
    }

    /// A member hands its slots over, and its process ends a little later.
    pub(crate) fn drain_node(&mut self, at: usize) {
        let masters = self.group.state.masters().count();
        let Some(incarnation) = self.nodes[at].incarnation else { return };
        if masters > 1 && self.phase == Phase::Fire {
            self.propose(None, Command::Drain { node: id_of(at), incarnation });
            let later = self.dice[Fault::Churn as usize].between(SEC, 8 * SEC);
            let life = self.nodes[at].life;
            self.queue.push(self.now + later, Event::EndNode { node: at as u8, life });
        }
    }
}

/// What every node that comes to an epoch must agree on.
pub(crate) fn fingerprint(state: &State) -> u64 {
    let mut hash = u64::from(state.epoch);
    let mut mix = |number: u64| hash = (hash.rotate_left(7) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for slot in &state.slots {
        mix(u64::from(slot.master.0) << 40 | u64::from(slot.incarnation.0) << 32 | u64::from(slot.generation.0));
    }
    for (node, Incarnation(incarnation)) in state.up() {
        mix(u64::from(node.0) << 32 | u64::from(incarnation));
    }
    hash
}

fn short(command: &Command) -> String {
    match command {
        Command::Form { .. } => "Form".into(),
        Command::Move { slots } => format!("Move of {} slots from {:?}", slots.len(), slots.first()),
        other => format!("{other:?}"),
    }
}

fn short_change(change: &Change) -> String {
    match change {
        Change::Epoch { moved } => format!("{} slots moved", moved.len()),
        other => format!("{other:?}"),
    }
}
