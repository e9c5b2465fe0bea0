//! The world: true time, hosts with clocks, nodes, clients, what lies between them, and what watches over it all.

use lockstead_types::{ModeTable, tables::built_in};

use crate::{
    calm::Calm,
    clients::Client,
    clock::Clock,
    group::Group,
    history::History,
    invariants::Code,
    judge::Judge,
    model,
    net::{End, Net},
    nodes::Host,
    options::{Fault, Options},
    queue::{Event, GroupEvent, Queue},
    random::Random,
    resource::Resources,
    trace::Trace,
};

/// Nanoseconds.
pub(crate) const MS: u64 = 1_000_000;
/// Nanoseconds.
pub(crate) const SEC: u64 = 1_000 * MS;
/// What clocks are promised to keep within, parts per million.
pub(crate) const RHO_PPM: u32 = 10_000;
/// When a run begins: not at the origin of the clocks.
const BEGIN: u64 = 100 * SEC;
const AUDIT_EVERY: u64 = 100 * MS;

/// Where a run stands.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// Anything may fail.
    Fire,
    /// Nothing fails any more, and work goes on: what was asked before must end.
    Heal,
    /// Nothing is asked any more: everything must end.
    Drain,
    /// It is over.
    Done,
}

pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) modes: ModeTable,
    /// True time, nanoseconds.
    pub(crate) now: u64,
    pub(crate) phase: Phase,
    /// When the phase ends, or what must be reached by then.
    pub(crate) until: u64,
    pub(crate) queue: Queue,
    pub(crate) trace: Trace,
    pub(crate) net: Net,
    /// Of members only; there is none about a node alone.
    pub(crate) group: Group,
    /// Of every host: first those of nodes, then those of remote clients.
    pub(crate) clocks: Vec<Clock>,
    pub(crate) nodes: Vec<Host>,
    pub(crate) clients: Vec<Client>,
    pub(crate) resources: Resources,
    pub(crate) judge: Judge,
    pub(crate) calm: Calm,
    pub(crate) history: History,
    /// For each kind of fault.
    pub(crate) dice: Vec<Random>,
    /// For what hosts do by themselves.
    pub(crate) chance: Random,
    pub(crate) sessions: u128,
    pub(crate) values: u64,
    pub(crate) faults: u64,
    pub(crate) events: u64,
}

impl World {
    pub(crate) fn new(options: Options, with_text: bool) -> World {
        let modes = built_in("vms").expect("a built-in table");
        let seed = options.seed;
        let nodes = options.nodes as usize;
        let hosts = nodes + options.clients as usize;
        let mut chance = Random::new(seed, 1);
        let clocks = (0..hosts).map(|_| Clock::new(0, chance.below(1_000_000 * SEC), 0)).collect();
        let net = Net::new(hosts, u64::from(options.delay) * 1_000, Random::new(seed, 2));
        let dice = Fault::ALL.iter().map(|fault| Random::new(seed, 100 + *fault as u64)).collect();
        let mut world = World {
            resources: Resources::new(&modes, options.names as usize),
            judge: Judge::new(&options, &modes),
            calm: Calm::default(),
            history: History::new(options.names as usize),
            now: BEGIN,
            phase: Phase::Fire,
            until: BEGIN + u64::from(options.fire) * SEC,
            queue: Queue::default(),
            trace: Trace::new(with_text),
            net,
            group: Group::new(&options),
            clocks,
            nodes: Host::all(nodes),
            clients: Vec::new(),
            dice,
            chance,
            sessions: 0,
            values: 0,
            faults: 0,
            events: 0,
            modes,
            options,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        if self.options.has(Fault::Drift) {
            self.set_rates();
        }
        for node in 0..self.nodes.len() {
            let late = !self.options.alone && node >= (self.options.nodes - self.options.late) as usize;
            let after = if late { self.chance.between(2 * SEC, u64::from(self.options.fire) * SEC) } else { 0 };
            self.queue.push(self.now + after, Event::StartNode { node: node as u8, life: 0 });
        }
        if !self.options.alone {
            for host in &mut self.nodes {
                host.replica = self.group.state.clone();
                host.applied = self.group.log.len();
            }
            self.plan_group(0, GroupEvent::Lead);
        }
        for client in 0..self.options.clients {
            let client = self.new_client(client as usize);
            self.clients.push(client);
        }
        for client in 0..self.clients.len() {
            let at = self.now + self.chance.below(500 * MS);
            self.queue.push(at, Event::StartClient { client: client as u8, life: 0 });
        }
        for fault in Fault::ALL {
            if self.options.has(*fault) {
                self.plan_fault(*fault);
            }
        }
        self.queue.push(self.now + AUDIT_EVERY, Event::Audit);
    }

    /// Runs until all is done or something is wrong.
    pub(crate) fn run(&mut self) {
        while self.phase != Phase::Done && self.judge.violation().is_none() {
            let Some((at, event)) = self.queue.pop() else { break };
            self.now = self.now.max(at);
            self.events += 1;
            self.trace.mix(self.now);
            self.dispatch(event);
        }
        self.judge_history();
    }

    /// Whether one lock manager that does one thing after the other could have answered like this.
    fn judge_history(&mut self) {
        if self.judge.violation().is_some() || !self.options.clocks_keep() {
            return;
        }
        for (name, holds) in self.history.names.iter().enumerate() {
            if let Err(what) = model::check(&self.modes, holds) {
                return self.judge.fail(Code::Model, &format!("resource {name}: {what}"));
            }
        }
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::Deliver { conn, side } => self.on_deliver(conn, usize::from(side)),
            Event::Broken { conn, side } => self.on_broken(conn, usize::from(side)),
            Event::WakeNode { node, life } => self.on_wake_node(node, life),
            Event::WakeClient { client, life } => self.on_wake_client(client, life),
            Event::Connect { client, attempt, node } => self.on_connect(client, attempt, node),
            Event::Work { client, life } => self.on_work(client, life),
            Event::StartClient { client, life } => self.on_start_client(client, life),
            Event::Guarded { number } => self.on_guarded(number),
            Event::StartNode { node, life } => self.on_start_node(node, life),
            Event::Synced { node, life } => self.on_synced(node, life),
            Event::Fault { kind } => self.on_fault(Fault::ALL[usize::from(kind)]),
            Event::Audit => self.on_audit(),
            Event::Group(event) => self.on_group(event),
            Event::Operator { deed, node, life } => self.on_operator(deed, node, life),
            Event::EndNode { node, life } => self.on_end_node(node, life),
        }
    }

    fn on_audit(&mut self) {
        self.look_for_calm();
        self.audit();
        if self.now >= self.until {
            self.on_phase_end();
        } else if self.phase == Phase::Drain && self.is_quiet() {
            self.phase = Phase::Done;
        }
        self.queue.push(self.now + AUDIT_EVERY, Event::Audit);
    }

    fn on_phase_end(&mut self) {
        let patience = 20 * SEC + 3 * u64::from(self.options.ttl) * MS;
        match self.phase {
            Phase::Fire => {
                self.phase = Phase::Heal;
                self.heal();
                self.until = self.now + patience;
                self.judge.on_heal();
            }
            Phase::Heal => {
                self.judge_progress();
                self.judge_starving();
                self.phase = Phase::Drain;
                self.until = self.now + patience;
            }
            Phase::Drain => self.judge_end(),
            Phase::Done => {}
        }
    }

    /// Until when an end stands still.
    pub(crate) fn paused_until(&self, end: End) -> u64 {
        match end {
            End::Node(node) => self.nodes[usize::from(node)].paused_until,
            End::Client(client) => self.clients[usize::from(client)].paused_until,
        }
    }

    /// When to look again at whoever stands still: healing ends that sooner than was said.
    pub(crate) fn look_again(&self, paused_until: u64) -> u64 {
        paused_until.min(self.now + 500 * MS)
    }

    /// Every clock gets a rate within what is promised, often at the edge of it.
    pub(crate) fn set_rates(&mut self) {
        self.note_lapses();
        let (now, rho) = (self.now, i64::from(RHO_PPM));
        let nodes = self.nodes.len();
        let out = self.options.has(Fault::DriftOut);
        for host in 0..self.clocks.len() {
            let ppm = match self.chance.below(3) {
                0 => -rho,
                1 => rho,
                _ => self.chance.between(0, 2 * rho as u64) as i64 - rho,
            };
            let beyond = out && host >= nodes;
            let ppm = if beyond { ppm * 30 } else { ppm };
            self.clocks[host].set_rate(now, ppm);
        }
        for node in 0..nodes {
            self.plan_wake_node(node);
        }
        for client in 0..self.clients.len() {
            self.plan_wake_client(client);
        }
    }
}
