//! What a seed draws for its run: how many take part, how they behave, and which faults strike how often. Many faults are
//! absent from a given run, so that those which hide others get their chance too (swarm testing).

use core::fmt;

use lockstead_types::space::{DeadlockPolicy, Mastering, SpaceSpec};

use crate::random::Random;

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident $text:literal $mean:literal $scope:ident;)*) => {
        /// A kind of fault.
        #[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
        #[repr(u8)]
        pub enum Fault { $($(#[$doc])* $name,)* }

        impl Fault {
            /// All of them.
            pub const ALL: &[Fault] = &[$(Fault::$name,)*];

            /// Its name in options and on the command line.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Fault::$name => $text,)* }
            }

            /// How many seconds pass between two of them in an ordinary run.
            const fn mean(self) -> u32 {
                match self { $(Fault::$name => $mean,)* }
            }

            const fn scope(self) -> Scope {
                match self { $(Fault::$name => Scope::$scope,)* }
            }
        }
    };
}

/// Where a fault makes sense.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Scope {
    Any,
    Cluster,
}

faults! {
    /// A node's process is killed, in the middle of what it was about to send, and started again later.
    Kill "kill" 12 Any;
    /// A node's host loses power: nobody is told, and what was not synced is lost.
    Power "power" 20 Any;
    /// A node is told to stop: it turns away what comes, then ends.
    Stop "stop" 30 Any;
    /// A node's process stands still.
    PauseNode "pause-node" 12 Any;
    /// A client's process stands still.
    PauseClient "pause-client" 8 Any;
    /// A client's process is killed.
    KillClient "kill-client" 10 Any;
    /// A client's program ends its session.
    Goodbye "goodbye" 15 Any;
    /// A connection breaks; what was on its way is lost from some point on.
    Break "break" 4 Any;
    /// Two hosts do not reach each other.
    Cut "cut" 8 Any;
    /// One host does not reach another, which reaches it.
    CutOneWay "cut-one-way" 8 Any;
    /// Messages between two hosts take long.
    Slow "slow" 8 Any;
    /// Clocks change their rates, within what is promised.
    Drift "drift" 5 Any;
    /// Clients' clocks run at rates beyond what is promised: only what needs no clocks must hold.
    DriftOut "drift-out" 5 Any;
    /// Guarded operations take long on their way, beyond the lease.
    LateWrites "late-writes" 5 Any;
    /// A node's disk takes long.
    SlowDisk "slow-disk" 10 Any;
    /// A node is cut off from all other hosts.
    Isolate "isolate" 12 Cluster;
    /// The hosts fall into two halves.
    Split "split" 20 Cluster;
    /// A node loses its data and comes back as a new member.
    Wipe "wipe" 40 Cluster;
    /// A node hands its slots over and leaves; another time it comes back.
    Churn "churn" 20 Cluster;
    /// The membership group takes long.
    GroupSlow "group-slow" 10 Cluster;
    /// The membership group decides nothing.
    GroupDown "group-down" 15 Cluster;
    /// Proposals get lost.
    GroupLoss "group-loss" 5 Cluster;
    /// The group's leader changes.
    Leader "leader" 10 Cluster;
    /// A node learns late of what was committed.
    Lag "lag" 8 Cluster;
    /// A member is down for long, and an operator removes it; later it is let in again.
    Remove "remove" 30 Cluster;
    /// A member hands its slots over and leaves the cluster; later it is let in again.
    Leave "leave" 25 Cluster;
    /// More than half of the voters are lost, and an operator gives them up.
    Lose "lose" 60 Cluster;
    /// A node dies at a step of a recovery.
    CrashRecovery "crash-recovery" 5 Cluster;
    /// Clients claim, beside what they hold, what nobody granted them.
    Forge "forge" 5 Cluster;
    /// Every node dies at once.
    KillAll "kill-all" 45 Cluster;
}

/// What a run is made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// Where everything else comes from.
    pub seed: u64,
    /// Whether the one node knows of no cluster.
    pub alone: bool,
    /// How many nodes.
    pub nodes: u32,
    /// Whether the last of them is a witness.
    pub witness: bool,
    /// How many of the nodes are no members at first.
    pub late: u32,
    /// Whether nodes master unequal shares.
    pub weights: bool,
    /// Whether a minority that is down when faults stop stays dead.
    pub abandon: bool,
    /// How many clients.
    pub clients: u32,
    /// How many of them sit on the host of a node and reach it as local ones do.
    pub locals: u32,
    /// How many resources.
    pub names: u32,
    /// Milliseconds of a lease.
    pub ttl: u32,
    /// Seconds under fire.
    pub fire: u32,
    /// Microseconds a message takes, about.
    pub delay: u32,
    /// Milliseconds between two deeds of a client.
    pub think: u32,
    /// Milliseconds a lock is held.
    pub hold: u32,
    /// Requests a client has open at most.
    pub depth: u32,
    /// Requests a node takes in at once from a session.
    pub credit: u32,
    /// Waiters a resource may have.
    pub waiters: u32,
    /// Rows of a recovery a node handles in one turn.
    pub turn: u32,
    /// Of a thousand holders, those that release only when somebody wants the lock.
    pub lazy: u32,
    /// Of a thousand deeds with a lock, those that convert it.
    pub convert: u32,
    /// Of a thousand locks and releases, those that read and write the value block.
    pub values: u32,
    /// How many of the clients watch all resources.
    pub watchers: u32,
    /// Milliseconds a bounded wait may take, about.
    pub patience: u32,
    /// Which modes are asked for: all six, mostly shared, only exclusive.
    pub mix: Mix,
    /// Of a thousand locks, those asked for as a member of a group.
    pub groups: u32,
    /// Whether the lockspace of a cluster is persistent.
    pub persistent: bool,
    /// Whether slots go to the nodes that use them.
    pub affinity: bool,
    /// Whether programs run transactions, all of them. No seed draws it: it is set.
    pub deals: bool,
    /// What the lockspace does about deadlocks; other than `detect` only where programs run transactions.
    pub deadlock: DeadlockPolicy,
    /// Of a thousand runs of a fault's mean time, how many strikes; 0 for never.
    pub rates: [u32; Fault::ALL.len()],
}

/// Which modes clients ask for.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Mix {
    /// All six, each as often.
    Six,
    /// Mostly shared.
    Shared,
    /// Only exclusive.
    Exclusive,
}

/// By number on the command line.
pub(crate) const POLICIES: [DeadlockPolicy; 3] =
    [DeadlockPolicy::Detect, DeadlockPolicy::WaitDie, DeadlockPolicy::WoundWait];

impl Options {
    /// What a seed draws.
    #[must_use]
    pub fn of(seed: u64) -> Options {
        let random = &mut Random::new(seed, 0x0ff1_ce00);
        let nodes = random.pick(&[1, 1, 2, 3, 3, 3, 4, 5, 5]);
        let mut options = Options {
            seed,
            alone: nodes == 1 && random.chance(700),
            nodes,
            witness: nodes >= 3 && random.chance(250),
            late: if nodes >= 2 && random.chance(250) { random.between(1, u64::from(nodes) - 1) as u32 } else { 0 },
            weights: random.chance(250),
            abandon: random.chance(300),
            clients: random.between(2, 7) as u32,
            locals: 0,
            names: random.between(1, 6) as u32,
            ttl: random.pick(&[600, 1_000, 2_000, 2_000, 4_000, 8_000]),
            fire: random.pick(&[15, 30, 30, 60]),
            delay: random.pick(&[50, 200, 1_000, 10_000]),
            think: random.pick(&[10, 30, 100, 300]),
            hold: random.pick(&[5, 50, 200, 1_000]),
            depth: random.pick(&[1, 2, 4, 8]),
            credit: random.pick(&[2, 8, 64]),
            waiters: random.pick(&[2, 100, 100]),
            // Drawn apart, so that all else is as it was for a seed before there was this.
            turn: Random::new(seed, 0x0712_0712).pick(&[1, 2, 1_024]),
            lazy: random.pick(&[0, 0, 300, 900]),
            convert: random.pick(&[0, 100, 400]),
            values: random.pick(&[0, 200, 800]),
            watchers: random.pick(&[0, 0, 1, 2]),
            patience: random.pick(&[300, 500, 1_500]),
            mix: random.pick(&[Mix::Six, Mix::Six, Mix::Shared, Mix::Exclusive]),
            groups: Random::new(seed, 0x0911_0911).pick(&[0, 0, 0, 0, 0, 0, 0, 600]),
            persistent: false,
            affinity: false,
            deals: false,
            deadlock: DeadlockPolicy::Detect,
            rates: [0; Fault::ALL.len()],
        };
        options.locals = if random.chance(400) { random.between(1, u64::from(options.clients)) as u32 } else { 0 };
        options.draw_faults(random);
        // Chance of its own: what came before it is drawn as ever.
        let random = &mut Random::new(seed, 0x05fa_ce00);
        options.persistent = !options.alone && random.chance(200);
        options.affinity = !options.alone && random.chance(200);
        let random = &mut Random::new(seed, 0x0dea_1000);
        options.deals = random.chance(125);
        if options.deals {
            options.deadlock = random.pick(&POLICIES);
        }
        options
    }

    /// The lockspace all clients use, where it is agreed on.
    pub(crate) fn space(&self) -> SpaceSpec {
        let mastering = if self.affinity { Mastering::Affinity } else { Mastering::Spread };
        SpaceSpec { mastering, persistent: self.persistent, deadlock: self.deadlock, ..SpaceSpec::named("default") }
    }

    fn draw_faults(&mut self, random: &mut Random) {
        // One run in twelve is calm: there nothing at all may be lost.
        if random.chance(83) {
            return;
        }
        let kinds = random.pick(&[100, 250, 400, 700]);
        let cluster = !self.alone;
        for fault in Fault::ALL {
            let on = random.chance(kinds);
            let rate = random.pick(&[300, 1_000, 1_000, 3_000]);
            let rare = *fault == Fault::DriftOut && !random.chance(150);
            if on && !rare && (cluster || fault.scope() == Scope::Any) {
                self.rates[*fault as usize] = rate;
            }
        }
    }

    /// Whether a fault strikes at all.
    #[must_use]
    pub fn has(&self, fault: Fault) -> bool {
        self.rates[fault as usize] > 0
    }

    /// Whether nothing goes wrong in this run.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        self.rates.iter().all(|rate| *rate == 0)
    }

    /// Nanoseconds between two strikes of a fault, about.
    pub(crate) fn between(&self, fault: Fault) -> u64 {
        u64::from(fault.mean()) * 1_000_000_000_000 / u64::from(self.rates[fault as usize].max(1))
    }

    /// Changes one option, as `name=number`; a fault's name without a number turns it off.
    ///
    /// # Errors
    /// Says what is not known.
    pub fn set(&mut self, text: &str) -> Result<(), String> {
        let (name, number) = text.split_once('=').unwrap_or((text, "0"));
        let number: u32 = number.parse().map_err(|_| format!("{text}: a number is wanted"))?;
        if let Some(fault) = Fault::ALL.iter().find(|fault| fault.text() == name) {
            self.rates[*fault as usize] = number;
            return Ok(());
        }
        let place = match name {
            "nodes" => &mut self.nodes,
            "clients" => &mut self.clients,
            "locals" => &mut self.locals,
            "names" => &mut self.names,
            "ttl" => &mut self.ttl,
            "fire" => &mut self.fire,
            "delay" => &mut self.delay,
            "think" => &mut self.think,
            "hold" => &mut self.hold,
            "depth" => &mut self.depth,
            "credit" => &mut self.credit,
            "waiters" => &mut self.waiters,
            "turn" => &mut self.turn,
            "lazy" => &mut self.lazy,
            "convert" => &mut self.convert,
            "values" => &mut self.values,
            "watchers" => &mut self.watchers,
            "patience" => &mut self.patience,
            "groups" => &mut self.groups,
            "late" => &mut self.late,
            "weights" => {
                self.weights = number > 0;
                return Ok(());
            }
            "abandon" => {
                self.abandon = number > 0;
                return Ok(());
            }
            "alone" => {
                self.alone = number > 0;
                return Ok(());
            }
            "witness" => {
                self.witness = number > 0;
                return Ok(());
            }
            "persistent" => {
                self.persistent = number > 0;
                return Ok(());
            }
            "deals" => {
                self.deals = number > 0;
                return Ok(());
            }
            "deadlock" => {
                let policy = POLICIES.get(number as usize);
                self.deadlock = *policy.ok_or_else(|| format!("{text}: no policy of that number"))?;
                return Ok(());
            }
            "affinity" => {
                self.affinity = number > 0;
                return Ok(());
            }
            _ => return Err(format!("no option `{name}`")),
        };
        *place = number;
        Ok(())
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Options { alone, nodes, witness, late, weights, abandon, .. } = self;
        write!(f, "nodes={nodes} alone={} witness={} late={late}", u8::from(*alone), u8::from(*witness))?;
        write!(f, " weights={} abandon={}", u8::from(*weights), u8::from(*abandon))?;
        let Options { clients, locals, names, ttl, fire, delay, .. } = self;
        write!(f, " clients={clients} locals={locals} names={names} ttl={ttl} fire={fire} delay={delay}")?;
        let Options {
            think, hold, depth, credit, waiters, turn, lazy, convert, values, watchers, patience, mix, ..
        } = self;
        write!(
            f,
            " think={think} hold={hold} depth={depth} credit={credit} waiters={waiters} turn={turn} lazy={lazy}"
        )?;
        write!(f, " convert={convert} values={values} watchers={watchers} patience={patience} mix={mix:?}")?;
        if self.groups > 0 {
            write!(f, " groups={}", self.groups)?;
        }
        for (on, what) in [(self.persistent, "persistent"), (self.affinity, "affinity")] {
            if on {
                write!(f, " {what}=1")?;
            }
        }
        if self.deals {
            let policy = POLICIES.iter().position(|policy| *policy == self.deadlock).unwrap_or_default();
            write!(f, " deals=1 deadlock={policy}")?;
        }
        for fault in Fault::ALL.iter().filter(|fault| self.has(**fault)) {
            write!(f, " {}={}", fault.text(), self.rates[*fault as usize])?;
        }
        if self.is_calm() { write!(f, " calm") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_again_and_others_differ() {
        assert_eq!(Options::of(5), Options::of(5));
        let calm = (0..1_000).filter(|seed| Options::of(*seed).is_calm()).count();
        assert!((20..200).contains(&calm), "{calm}");
        for fault in Fault::ALL {
            assert!((0..1_000).any(|seed| Options::of(seed).has(*fault)), "{}", fault.text());
        }
    }

    #[test]
    fn every_option_that_is_shown_can_be_set() {
        let mut options = Options::of(5);
        for word in Options::of(11).to_string().split(' ').filter(|word| word.contains('=') && !word.starts_with("mix"))
        {
            options.set(word).expect(word);
        }
        assert!(options.set("nonsense=1").is_err());
    }
}
