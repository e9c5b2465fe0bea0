//! What goes wrong, when and where.

use lockstead_cluster::State;

use crate::{
    net::End,
    nodes::Death,
    options::Fault,
    queue::Event,
    world::{MS, Phase, SEC, World},
};

impl World {
    pub(crate) fn plan_fault(&mut self, fault: Fault) {
        let mean = self.options.between(fault);
        let later = self.dice[fault as usize].around(mean);
        self.queue.push(self.now + later, Event::Fault { kind: fault as u8 });
    }

    pub(crate) fn on_fault(&mut self, fault: Fault) {
        if self.phase != Phase::Fire {
            return;
        }
        self.faults += 1;
        self.plan_fault(fault);
        let ttl = u64::from(self.options.ttl) * MS;
        let nodes = self.nodes.len() as u64;
        let clients = self.clients.len() as u64;
        let dice = &mut self.dice[fault as usize];
        let node = dice.below(nodes) as usize;
        let client = dice.below(clients) as usize;
        // As long as leases of clients are, or of members.
        let long = dice.chance(250);
        let span = if long { dice.between(2 * SEC, 7 * SEC) } else { dice.around(ttl / 2) };
        self.note_fault(fault, 2 * span + 3 * SEC);
        let dice = &mut self.dice[fault as usize];
        match fault {
            Fault::Kill => {
                if dice.chance(500) {
                    self.kill_node(node, Death::Killed);
                } else if self.nodes[node].running {
                    self.nodes[node].dies_after = Some(dice.below(6) as u32);
                }
            }
            Fault::Power => self.kill_node(node, Death::Power),
            Fault::Stop => self.stop_node(node),
            Fault::PauseNode => self.pause_node(node, span),
            Fault::PauseClient => self.pause_client(client, span * 2),
            Fault::KillClient => self.kill_client(client),
            Fault::Goodbye => self.part_client(client),
            Fault::Break => self.break_some(),
            Fault::Cut | Fault::CutOneWay | Fault::Slow => self.cut_some(fault, span),
            Fault::Drift | Fault::DriftOut => self.set_rates(),
            Fault::SlowDisk => self.nodes[node].disk.slow_until = self.now + span,
            Fault::LateWrites | Fault::Forge | Fault::CrashRecovery => {}
            Fault::Remove => self.remove_node(node),
            Fault::Leave => self.leave_node(node),
            Fault::Lose => self.lose_majority(),
            Fault::Isolate | Fault::Split => self.part_hosts(fault, node, span),
            Fault::Wipe => self.wipe_node(node),
            Fault::Churn => self.drain_node(node),
            Fault::GroupSlow => self.group.slow_until = self.now + span,
            Fault::GroupDown => self.group.down_until = self.now + span,
            Fault::GroupLoss => self.group.loss_until = self.now + span,
            Fault::Leader => self.group.depose(),
            Fault::Lag => self.nodes[node].lags_until = self.now + span + 2 * SEC,
            Fault::KillAll => (0..self.nodes.len()).for_each(|node| self.kill_node(node, Death::Killed)),
        }
    }

    fn break_some(&mut self) {
        let dice = &mut self.dice[Fault::Break as usize];
        let Some(conn) = self.net.any(dice) else { return };
        let local = self.net.conn(conn).is_some_and(|c| self.host_of(c.ends[0]) == self.host_of(c.ends[1]));
        // What is within a host does not break by itself.
        if !local {
            self.trace.say(self.now, format_args!("conn {conn} breaks"));
            self.break_conn(conn);
        }
    }

    fn cut_some(&mut self, fault: Fault, span: u64) {
        let dice = &mut self.dice[fault as usize];
        let hosts = self.clocks.len() as u64;
        let (from, to) = (dice.below(self.nodes.len() as u64) as usize, dice.below(hosts) as usize);
        let (from, to) = if dice.chance(500) { (from, to) } else { (to, from) };
        if from == to {
            return;
        }
        let until = self.now + span;
        self.trace.say(self.now, format_args!("{} from host {from} to host {to}: {} ms", fault.text(), span / MS));
        match fault {
            Fault::Slow => {
                self.net.slow(from, to, until);
                self.net.slow(to, from, until);
            }
            Fault::Cut => {
                self.net.cut(from, to, until);
                self.net.cut(to, from, until);
            }
            _ => self.net.cut(from, to, until),
        }
    }

    /// A node alone, or the hosts in two halves.
    fn part_hosts(&mut self, fault: Fault, node: usize, span: u64) {
        let hosts = self.clocks.len();
        let sides: Vec<bool> = if fault == Fault::Isolate {
            (0..hosts).map(|host| host == node).collect()
        } else {
            (0..hosts).map(|_| self.dice[fault as usize].chance(500)).collect()
        };
        self.trace.say(self.now, format_args!("{}: {sides:?} for {} ms", fault.text(), span / MS));
        let until = self.now + span + SEC;
        for from in 0..hosts {
            for to in (0..hosts).filter(|to| sides[from] != sides[*to]) {
                self.net.cut(from, to, until);
            }
        }
    }

    /// A node loses its data, and with it its vote: only where the others have a majority without it.
    fn wipe_node(&mut self, at: usize) {
        let voters = &self.group.voters;
        let others = voters.iter().filter(|node| **node != at && self.nodes[**node].running).count();
        if 2 * others <= voters.len() + 1 || !self.nodes[at].running {
            return;
        }
        self.trace.say(self.now, format_args!("node {at} loses its data"));
        self.kill_node(at, Death::Power);
        let host = &mut self.nodes[at];
        host.identity += 1_000;
        host.epoch = 0;
        host.replica = State::default();
        host.applied = 0;
    }

    /// No more faults.
    pub(crate) fn heal(&mut self) {
        self.trace.say(self.now, format_args!("all faults stop"));
        self.note_fault(Fault::KillAll, 0);
        self.net.heal();
        self.settle_losses();
        (self.group.down_until, self.group.slow_until, self.group.loss_until) = (0, 0, 0);
        for node in 0..self.nodes.len() {
            let host = &mut self.nodes[node];
            host.dies_after = None;
            host.disk.slow_until = 0;
            host.paused_until = host.paused_until.min(self.now + 10 * MS);
            host.lags_until = 0;
            if !host.running {
                let life = host.life;
                self.queue.push(self.now, Event::StartNode { node: node as u8, life });
            }
        }
        for client in &mut self.clients {
            client.paused_until = client.paused_until.min(self.now + 10 * MS);
        }
        // What was on its way into a wall comes on.
        for node in 0..self.nodes.len() {
            for (conn, side) in self.net.of(End::Node(node as u8)) {
                self.queue.push(self.now, Event::Deliver { conn, side });
                self.queue.push(self.now, Event::Deliver { conn, side: 1 - side });
            }
        }
    }
}
