//! Clients that run transactions over few hot names, in virtual time: what a lockspace's policy makes of a load that closes cycles all
//! the time. The test asks whether all of them commit, the benchmark how often they had to begin again.

use std::{collections::BTreeSet, sync::Arc};

use lockstead_table::{Effect, Outcome, OwnerId, Space, Table};
use lockstead_types::{
    Age, Flags, Limits, LockId, Mode, Refusal, SpaceId, Span, Time,
    request::{Claim, ConvertRequest, LockRequest, OwnerRef, ReleaseRequest, Wait},
    space::{DeadlockPolicy, QueuePolicy, VictimPolicy},
    tables::built_in,
};

const HERE: SpaceId = SpaceId(1);
const PR: Mode = Mode(3);
const EX: Mode = Mode(5);
/// Work with a lock once it is there.
const WORK: Span = Span::from_millis(1);
/// Doublings of the pause before a transaction is tried again.
const DOUBLINGS: u32 = 6;

/// How it is run.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) policy: DeadlockPolicy,
    /// Whether the pause before another try doubles with each, drawn between nothing and that.
    pub(crate) backoff: bool,
    pub(crate) clients: u64,
    pub(crate) names: u64,
    /// Locks of a transaction at most.
    pub(crate) locks: u64,
    /// Transactions of each client.
    pub(crate) commits: u64,
}

/// What came of it.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Came {
    pub(crate) commits: u64,
    pub(crate) restarts: u64,
    /// Of one transaction, at most.
    pub(crate) worst: u64,
    /// Cycles between several owners that were found.
    pub(crate) cycles: u64,
    pub(crate) elapsed: Span,
}

struct Client {
    owner: OwnerId,
    names: Vec<(u64, Mode)>,
    age: Option<Age>,
    /// Names it has locked, in order.
    held: Vec<(u64, LockId)>,
    state: State,
    tries: u64,
    commits: u64,
    /// Numbers what it does next: an alarm of before does not count.
    turn: u64,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum State {
    /// Its transaction has not begun, or is rolled back.
    Idle,
    Working,
    /// For its next name; of a new lock with its id.
    Waiting(Option<LockId>),
}

struct World {
    plan: Plan,
    dice: u64,
    table: Table,
    now: Time,
    clients: Vec<Client>,
    alarms: BTreeSet<(Time, u64, u64)>,
    fx: Vec<Effect>,
    scn: u64,
    came: Came,
}

/// Runs until every client has committed what it has to. Stops, with fewer commits, when nothing moves any more or a transaction
/// was begun again `patience` times.
pub(crate) fn run(plan: Plan, patience: u64) -> Came {
    let mut world = World::new(plan);
    while let Some((at, client, turn)) = world.alarms.pop_first() {
        world.now = at;
        if world.clients[client as usize].turn == turn {
            world.go_on(client);
            world.hear();
        }
        if world.came.worst > patience {
            break;
        }
    }
    world.came.elapsed = world.now.since(Time::ZERO);
    world.came
}

impl World {
    fn new(plan: Plan) -> World {
        let mut table = Table::new(Limits::default(), 1, plan.seed);
        let space = Space {
            modes: Arc::new(built_in("vms").expect("built in")),
            policy: QueuePolicy::Vms,
            deadlock: plan.policy,
            victim: VictimPolicy::Youngest,
            value_bytes: 0,
            levels: 0,
            extents: false,
            persistent: false,
        };
        table.add_space(HERE, space);
        let (now, came) = (Time::ZERO, Came::default());
        let (clients, alarms) = (Vec::new(), BTreeSet::new());
        let mut world = World { plan, dice: plan.seed, table, now, clients, alarms, fx: Vec::new(), scn: 0, came };
        for client in 0..plan.clients {
            let owner = world.table.add_owner();
            world.clients.push(Client {
                owner,
                names: Vec::new(),
                age: None,
                held: Vec::new(),
                state: State::Idle,
                tries: 0,
                commits: 0,
                turn: 0,
            });
            world.draw(client);
        }
        world
    }

    /// SplitMix64.
    fn below(&mut self, n: u64) -> u64 {
        self.dice = self.dice.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.dice;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % n
    }

    /// The next transaction of a client.
    fn draw(&mut self, client: u64) {
        let names = (0..=self.below(self.plan.locks)).map(|_| {
            let name = self.below(self.plan.names);
            (name, if self.below(3) == 0 { EX } else { PR })
        });
        let names = names.collect();
        let pause = Span::from_nanos(self.below(2 * WORK.as_nanos()));
        let it = &mut self.clients[client as usize];
        (it.names, it.age, it.tries) = (names, None, 0);
        self.alarm(client, pause);
    }

    fn alarm(&mut self, client: u64, pause: Span) {
        let it = &mut self.clients[client as usize];
        it.turn += 1;
        self.alarms.insert((self.now.after(pause), client, it.turn));
    }

    fn go_on(&mut self, client: u64) {
        let it = &mut self.clients[client as usize];
        if it.state == State::Idle {
            self.scn += 1;
            // Tried again it has the age it had first.
            it.age.get_or_insert(Age { scn: self.scn, tie: 0 });
            it.state = State::Working;
            self.table.set_owner_age(self.now, it.owner, it.age, &mut self.fx);
            return self.alarm(client, Span::ZERO);
        }
        match it.names.get(it.held.len()).copied() {
            Some((name, mode)) => self.ask(client, name, mode),
            None => self.commit(client),
        }
    }

    fn ask(&mut self, client: u64, name: u64, mode: Mode) {
        let it = &self.clients[client as usize];
        let mine = it.held.iter().find(|(held, _)| *held == name).map(|(_, lock)| *lock);
        let answer = match mine {
            Some(lock) => {
                let req = ConvertRequest { lock, mode: EX, wait: Wait::Forever, flags: Flags::NONE, value: None };
                self.table.convert(self.now, it.owner, client, &req, &mut self.fx)
            }
            None => {
                let name = [name as u8 + 1];
                let req = LockRequest {
                    space: HERE,
                    name: &name,
                    claim: Claim::Mode(mode),
                    wait: Wait::Forever,
                    flags: Flags::NONE,
                    owner: OwnerRef::Session,
                    tag: 0,
                    priority: 0,
                };
                self.table.lock(self.now, it.owner, client, &req, &mut self.fx)
            }
        };
        let it = &mut self.clients[client as usize];
        match answer {
            Ok(Outcome::Granted(grant)) => {
                it.held.push((name, grant.lock));
                self.alarm(client, WORK);
            }
            Ok(Outcome::Queued(lock)) => it.state = State::Waiting(Some(lock).filter(|_| mine.is_none())),
            Err(Refusal::Aborted | Refusal::Deadlock | Refusal::WouldWait) => self.roll_back(client),
            other => panic!("{other:?}"),
        }
    }

    fn commit(&mut self, client: u64) {
        self.let_go(client);
        self.came.commits += 1;
        let it = &mut self.clients[client as usize];
        it.commits += 1;
        if it.commits < self.plan.commits {
            self.draw(client);
        }
    }

    fn roll_back(&mut self, client: u64) {
        self.let_go(client);
        let it = &mut self.clients[client as usize];
        it.tries += 1;
        self.came.restarts += 1;
        self.came.worst = self.came.worst.max(it.tries);
        let tries = u32::try_from(it.tries).unwrap_or(DOUBLINGS).min(DOUBLINGS);
        let most = WORK.as_nanos() << tries;
        let pause = if self.plan.backoff { Span::from_nanos(self.below(most)) } else { WORK };
        self.alarm(client, pause);
    }

    fn let_go(&mut self, client: u64) {
        let it = &mut self.clients[client as usize];
        let waiting = match it.state {
            State::Waiting(lock) => lock,
            State::Idle | State::Working => None,
        };
        let mut locks: Vec<LockId> = it.held.drain(..).map(|(_, lock)| lock).chain(waiting).collect();
        it.state = State::Idle;
        locks.sort_unstable();
        locks.dedup();
        for lock in locks {
            let req = ReleaseRequest { lock, flags: Flags::FORCEUNLOCK, value: None };
            // What it waited for may be gone already.
            let released = self.table.release(self.now, it.owner, &req, &mut self.fx);
            assert!(released.is_ok() || Some(lock) == waiting, "{released:?}");
        }
        self.table.set_owner_age(self.now, it.owner, None, &mut self.fx);
    }

    fn hear(&mut self) {
        while !self.fx.is_empty() {
            for effect in core::mem::take(&mut self.fx) {
                match effect {
                    Effect::Granted { origin, grant, .. } => {
                        let it = &mut self.clients[origin as usize];
                        if matches!(it.state, State::Waiting(_)) {
                            it.state = State::Working;
                            it.held.push((it.names[it.held.len()].0, grant.lock));
                            self.alarm(origin, WORK);
                        }
                    }
                    Effect::Refused { origin, .. } => {
                        if matches!(self.clients[origin as usize].state, State::Waiting(_)) {
                            self.roll_back(origin);
                        }
                    }
                    Effect::Wounded { owner } => {
                        let client = self.clients.iter().position(|c| c.owner == owner).expect("known");
                        if self.clients[client].state != State::Idle {
                            self.roll_back(client as u64);
                        }
                    }
                    Effect::Deadlock { owners, .. } => {
                        self.came.cycles += u64::from(owners.iter().any(|(from, to)| from != to));
                    }
                    Effect::Blocking { .. } | Effect::Cancelled { .. } => {}
                    Effect::Revoked { .. } | Effect::Changed { .. } => panic!("{effect:?}"),
                }
            }
        }
        if self.plan.seed.is_multiple_of(16) {
            self.table.check().expect("sound");
        }
    }
}
