//! The workload: clients that add to guarded counters through the cluster, and the judge of what they do.
//!
//! A counter is a resource that checks tokens as [`FenceGate`] says. A client takes the lock, reads the counter, thinks, and writes
//! one more. So two that are inside at once are seen at once: by a token that does not rise, by a lease of another that
//! has not ended, or by a step that is lost.

use core::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    time::Duration,
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::Instant,
};

use lockstead::{Client, Error, FenceGate, Guard, Token, types::tables::built_in};

use crate::{
    common::{LONG, until},
    hostages::Hostages,
};

/// How long a client thinks while it is inside.
const INSIDE: Duration = Duration::from_millis(1);
/// Between two steps of a client.
const BETWEEN: Duration = Duration::from_millis(4);
/// For a client whose node may know nothing of most counters: it tries those that it may decide for.
pub(crate) const IMPATIENT: Duration = Duration::from_millis(100);
/// Longer than any step may have to wait: a lock that nobody gives back is seen.
pub(crate) const PATIENT: Duration = Duration::from_secs(40);

/// Clients at work, each on a thread of its own.
pub(crate) struct Work {
    world: Arc<World>,
    clients: Vec<JoinHandle<()>>,
    hostages: Hostages,
}

/// How a client takes part.
#[derive(Clone)]
pub(crate) struct Role {
    /// Where it finds the service.
    pub(crate) endpoints: String,
    /// Its lease.
    pub(crate) ttl: Duration,
    /// How long a step waits for its lock before the next is tried.
    pub(crate) wait: Duration,
    /// What its thread does first.
    pub(crate) first: Arc<dyn Fn() + Send + Sync>,
}

/// What came of it all.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Steps that were done.
    pub(crate) steps: u64,
    /// Sessions that were lost.
    pub(crate) lost: u64,
    /// The longest time between two steps at the same counter.
    pub(crate) longest: Duration,
}

struct World {
    counters: Vec<Mutex<Counter>>,
    stop: AtomicBool,
    lost: AtomicU64,
    wrong: Mutex<Vec<String>>,
    remarks: Mutex<Vec<String>>,
}

/// The guarded resource.
struct Counter {
    gate: FenceGate,
    value: u64,
    steps: u64,
    last: Token,
    inside: Option<Inside>,
    at: Instant,
    longest: Duration,
}

/// Who is inside, and until when its lease lasts by its own clock.
struct Inside {
    token: Token,
    until: Instant,
}

impl Work {
    /// So many clients at so many counters, with a lease that outlives an election and a takeover on a busy machine.
    pub(crate) fn start(endpoints: &str, clients: usize, counters: usize) -> Work {
        let role =
            Role { endpoints: endpoints.into(), ttl: Duration::from_secs(8), wait: PATIENT, first: Arc::new(|| ()) };
        Work::of(&vec![role; clients], counters)
    }

    /// Clients with these roles, at so many counters; the second role is that of the one with the [`Hostages`] too.
    pub(crate) fn of(roles: &[Role], counters: usize) -> Work {
        let counters = (0..counters).map(|_| Mutex::new(Counter::new())).collect();
        let world = World {
            counters,
            stop: AtomicBool::new(false),
            lost: AtomicU64::new(0),
            wrong: Mutex::new(Vec::new()),
            remarks: Mutex::new(Vec::new()),
        };
        let world = Arc::new(world);
        let client = |(number, role): (usize, &Role)| {
            let (world, role) = (Arc::clone(&world), role.clone());
            std::thread::spawn(move || {
                (role.first)();
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                runtime.block_on(world.client(number, &role));
            })
        };
        let clients = roles.iter().enumerate().map(client).collect();
        Work { world, clients, hostages: Hostages::take(&roles[1]) }
    }

    /// Waits until each counter got so many steps more.
    pub(crate) fn go_on(&self, steps: u64) {
        let before: Vec<u64> = self.world.counters.iter().map(|counter| lock(counter).steps).collect();
        for (number, before) in before.into_iter().enumerate() {
            until(&format!("counter {number} goes on: {}", self.world.said()), LONG, || {
                (lock(&self.world.counters[number]).steps >= before + steps).then_some(())
            });
        }
    }

    /// How many steps there were so far.
    pub(crate) fn steps(&self) -> u64 {
        self.world.counters.iter().map(|counter| lock(counter).steps).sum()
    }

    /// Ends the clients and judges what they did.
    pub(crate) fn finish(self) -> Tally {
        self.world.stop.store(true, SeqCst);
        for client in self.clients {
            until("a client ends", LONG, || client.is_finished().then_some(()));
            client.join().expect("no panic");
        }
        let (mut wrong, hostages_lost) = self.hostages.finish();
        wrong.append(&mut lock(&self.world.wrong));
        let said = self.world.said();
        assert!(wrong.is_empty(), "{wrong:#?}\n{said}");
        let lost = self.world.lost.load(SeqCst) + hostages_lost;
        let mut tally = Tally { steps: 0, lost, longest: Duration::ZERO };
        for (number, counter) in self.world.counters.iter().enumerate() {
            let counter = lock(counter);
            assert_eq!(counter.value, counter.steps, "counter {number}: steps were lost");
            tally.steps += counter.steps;
            tally.longest = tally.longest.max(counter.longest);
        }
        println!("{tally:?}\n{said}");
        tally
    }
}

impl World {
    /// A client: it connects, works, and connects anew when it has lost its session.
    async fn client(&self, number: usize, role: &Role) {
        let mut next = number;
        while !self.stopped() {
            let connecting = Client::builder().endpoints(&role.endpoints).ttl(role.ttl).connect().await;
            let client = match connecting {
                Ok(client) => client,
                Err(error) => {
                    self.remark(number, &format!("no session: {error}"));
                    pause(Duration::from_millis(50)).await;
                    continue;
                }
            };
            while !self.stopped() {
                next = (next + 1) % self.counters.len();
                if let Err(error) = self.step(&client, number, next, role.wait).await {
                    if role.wait == PATIENT || error.refusal().is_none() {
                        self.remark(number, &format!("counter {next}: {error}"));
                    }
                    if matches!(error, Error::Lost(_)) {
                        self.lost.fetch_add(1, SeqCst);
                        break;
                    }
                }
                pause(BETWEEN).await;
            }
            if self.stopped()
                && let Err(error) = client.close().await
            {
                self.remark(number, &format!("goodbye: {error}"));
            }
        }
    }

    async fn step(&self, client: &Client, number: usize, counter: usize, wait: Duration) -> Result<(), Error> {
        let guard = client.lock(name(counter)).wait(wait).await.inspect_err(|error| {
            if wait == PATIENT && !matches!(error, Error::Lost(_)) {
                self.wrong(number, &format!("counter {counter} was not granted: {error}"));
            }
        })?;
        let read = self.enter(&guard, number, counter)?;
        pause(INSIDE).await;
        self.leave(&guard, number, counter, read)?;
        if wait == PATIENT {
            return guard.release().await;
        }
        // Dropped, it is given back without waiting for an answer, which may be long in coming.
        drop(guard);
        Ok(())
    }

    /// Reads the counter.
    fn enter(&self, guard: &Guard, number: usize, at: usize) -> Result<u64, Error> {
        let mut counter = lock(&self.counters[at]);
        let (now, token) = (Instant::now(), guard.token());
        guard.check()?;
        if token <= counter.last {
            self.wrong(number, &format!("counter {at}: token {token} after {}", counter.last));
        }
        if let Some(inside) = &counter.inside
            && now < inside.until
        {
            let left = inside.until - now;
            self.wrong(number, &format!("counter {at}: {token} meets {}, whose lease lasts {left:?}", inside.token));
        }
        if let Err(stale) = counter.gate.admit(token, guard.mode().expect("a mode")) {
            self.wrong(number, &format!("counter {at}: {stale}"));
        }
        counter.last = counter.last.max(token);
        counter.inside = Some(Inside { token, until: now + guard.deadline().unwrap_or_default() });
        Ok(counter.value)
    }

    /// Writes one more.
    fn leave(&self, guard: &Guard, number: usize, at: usize, read: u64) -> Result<(), Error> {
        let mut counter = lock(&self.counters[at]);
        guard.check()?;
        let token = guard.token();
        if let Err(stale) = counter.gate.admit(token, guard.mode().expect("a mode")) {
            // Between the two looks at the clock the lease may have ended.
            guard.check()?;
            self.wrong(number, &format!("counter {at}: while it holds it, {stale}"));
            return Ok(());
        }
        if counter.value != read {
            self.wrong(number, &format!("counter {at}: {token} read {read}, and finds {}", counter.value));
        }
        counter.value = read + 1;
        counter.steps += 1;
        counter.inside = None;
        let now = Instant::now();
        counter.longest = counter.longest.max(now - counter.at);
        counter.at = now;
        Ok(())
    }

    fn said(&self) -> String {
        lock(&self.remarks).join("\n")
    }

    fn stopped(&self) -> bool {
        self.stop.load(SeqCst)
    }

    fn wrong(&self, number: usize, what: &str) {
        lock(&self.wrong).push(format!("client {number}: {what}"));
    }

    fn remark(&self, number: usize, what: &str) {
        let mut remarks = lock(&self.remarks);
        if remarks.len() < 40 {
            remarks.push(format!("client {number}: {what}"));
        }
    }
}

impl Counter {
    fn new() -> Counter {
        Counter {
            gate: FenceGate::new(built_in("vms").expect("built in")),
            value: 0,
            steps: 0,
            last: Token::NONE,
            inside: None,
            at: Instant::now(),
            longest: Duration::ZERO,
        }
    }
}

/// So many sessions ask for the lock `herd` so many times each, spread over the nodes; when all of them wait, `let_go` is called.
/// Gives how many were granted it, one after another, each under a higher token than the one before.
pub(crate) fn herd(nodes: &[String], sessions: usize, each: usize, let_go: impl FnOnce()) -> usize {
    let last = Arc::new(Mutex::new((0, Token::NONE)));
    let waiting = Arc::new(AtomicU64::new(0));
    let session = |number: usize| {
        let (endpoint, last, waiting) = (nodes[number % nodes.len()].clone(), Arc::clone(&last), Arc::clone(&waiting));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, async {
                let client = Client::builder().endpoints(endpoint).ttl(Duration::from_secs(30)).connect().await;
                let client = std::rc::Rc::new(client.expect("connects"));
                let one = |_| {
                    let (client, last) = (std::rc::Rc::clone(&client), Arc::clone(&last));
                    tokio::task::spawn_local(async move {
                        let guard = client.lock("herd").await.expect("granted");
                        {
                            let mut last = lock(&last);
                            assert!(guard.token() > last.1, "{} after {}", guard.token(), last.1);
                            *last = (last.0 + 1, guard.token());
                        }
                        guard.release().await.expect("released");
                    })
                };
                let all: Vec<_> = (0..each).map(one).collect();
                // Each has been polled once when the answer to what was asked after them is there.
                client.sync().await.expect("connected");
                waiting.fetch_add(1, SeqCst);
                for one in all {
                    one.await.expect("no panic");
                }
            });
        })
    };
    let threads: Vec<_> = (0..sessions).map(session).collect();
    until("all wait", LONG, || (waiting.load(SeqCst) == sessions as u64).then_some(()));
    let_go();
    for thread in threads {
        until("a session is served", 3 * LONG, || thread.is_finished().then_some(()));
        thread.join().expect("no panic");
    }
    lock(&last).0
}

/// The lock of a counter.
pub(crate) fn name(counter: usize) -> String {
    format!("counter/{counter}")
}

/// A client that thinks.
async fn pause(time: Duration) {
    let never = core::future::pending::<()>();
    let _ = tokio::time::timeout(time, never).await;
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
