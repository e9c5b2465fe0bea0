//! The workloads: what each client does, and what is kept of it.

use core::{
    sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst},
    time::Duration,
};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use hdrhistogram::Histogram;
use lockstead::{Claim, Error, types::tables::built_in};

use super::{
    Plan, Workload,
    locker::{Locker, let_others_run},
};

/// A client whose locks are all granted at once lets others run after so many.
const TURN: u64 = 64;
/// What a writer inside counts for, beside readers that count one.
const WRITER: i64 = 1 << 32;

/// A histogram of nanoseconds, to three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    let mut histogram = Histogram::new_with_bounds(1, 600_000_000_000, 3).unwrap_or_else(|_| fallback());
    histogram.auto(true);
    histogram
}

fn fallback() -> Histogram<u64> {
    // Cannot fail: three significant digits are always allowed.
    Histogram::new(3).expect("three digits")
}

/// What one client, or all together, did while it was measured.
pub(crate) struct Tally {
    pub(crate) ops: u64,
    pub(crate) pair: Histogram<u64>,
    pub(crate) acquire: Histogram<u64>,
    pub(crate) release: Histogram<u64>,
    /// W3: from the start of a release to the grant to another client. W4: acquires in exclusive mode.
    pub(crate) extra: Histogram<u64>,
    /// W3: waits that ended with the lock taken over from another client.
    pub(crate) takeover: Histogram<u64>,
    /// W3: grants.
    pub(crate) grants: u64,
    /// W3: grants to the client that had the lock before.
    pub(crate) again: u64,
}

/// How one client ended.
pub(crate) struct End {
    /// Ops, or grants where hand-overs are counted.
    pub(crate) count: u64,
    pub(crate) error: Option<String>,
}

/// Shared by the clients of one run.
pub(crate) struct Shared {
    pub(crate) start: Instant,
    /// The measurement begins and ends so many nanoseconds after the start.
    pub(crate) from: u64,
    pub(crate) until: u64,
    stop: AtomicBool,
    /// For ops that are not timed: whether they count.
    measuring: AtomicBool,
    /// W3: who is inside, when the last holder began to release, who that was.
    holders: AtomicI64,
    released_at: AtomicU64,
    releaser: AtomicUsize,
    violations: AtomicU64,
    /// W4: for each name, readers inside plus [`WRITER`] for each writer inside.
    inside: Vec<AtomicI64>,
}

/// One client: locks and releases until it is told to stop. The clients of a thread share a tally.
pub(crate) async fn work(
    locker: Locker,
    id: usize,
    plan: Arc<Plan>,
    shared: Arc<Shared>,
    tally: Arc<Mutex<Tally>>,
) -> End {
    let mut end = End { count: 0, error: None };
    let mut random = Random::new(0x5EED + id as u64 * 7919);
    let (shared_claim, exclusive) = claims();
    let mut round = 0u64;
    while !shared.stop.load(Relaxed) {
        let name = match plan.workload {
            Workload::W1 => round % plan.names,
            Workload::W3 => 0,
            Workload::W2 | Workload::W4 => random.below(plan.names),
        };
        round += 1;
        let reads = plan.workload == Workload::W4 && random.below(10) != 0;
        let timed = round.is_multiple_of(plan.sample);
        let op = Op { name, reads, timed };
        let claim = if reads { shared_claim } else { exclusive };
        if let Err(error) = cycle(&locker, id, op, claim, &plan, &shared, (&tally, &mut end.count)).await {
            end.error = Some(error.to_string());
            break;
        }
        if plan.embedded && round.is_multiple_of(TURN) {
            let_others_run().await;
        }
    }
    end
}

/// One acquire and release.
struct Op {
    name: u64,
    reads: bool,
    timed: bool,
}

async fn cycle(
    locker: &Locker,
    id: usize,
    op: Op,
    claim: Claim,
    plan: &Plan,
    shared: &Shared,
    (tally, count): (&Mutex<Tally>, &mut u64),
) -> Result<(), Error> {
    // Hand-overs are timed by both sides: always.
    let timed = op.timed || plan.workload == Workload::W3;
    let clock = || if timed { shared.now() } else { 0 };
    let asked = clock();
    let lock = locker.acquire(op.name, claim).await?;
    let got = clock();
    match plan.workload {
        Workload::W3 => *count += u64::from(inside_alone(id, asked, got, plan, shared, tally).await),
        Workload::W4 => inside_by_mode(&op, plan, shared).await,
        Workload::W1 | Workload::W2 => {}
    }
    let letting_go = clock();
    locker.release(lock).await?;
    let done = if timed { shared.now() } else { letting_go };
    let counted = if timed { (shared.from..shared.until).contains(&done) } else { shared.measuring.load(Relaxed) };
    if !counted {
        return Ok(());
    }
    if plan.workload != Workload::W3 {
        *count += 1;
    }
    let mut tally = kept(tally);
    tally.ops += 1;
    if timed {
        let _ = tally.pair.record(done - asked);
        let _ = tally.acquire.record(got - asked);
        let _ = tally.release.record(done - letting_go);
        if plan.workload == Workload::W4 && !op.reads {
            let _ = tally.extra.record(got - asked);
        }
    }
    Ok(())
}

/// W3: the one who is inside must be alone. Whether the grant was measured.
async fn inside_alone(id: usize, asked: u64, got: u64, plan: &Plan, shared: &Shared, tally: &Mutex<Tally>) -> bool {
    if shared.holders.fetch_add(1, SeqCst) != 0 {
        shared.violations.fetch_add(1, Relaxed);
    }
    let released = shared.released_at.load(SeqCst);
    let same = shared.releaser.swap(id, SeqCst) == id;
    let counted = (shared.from..shared.until).contains(&got);
    if counted {
        let mut tally = kept(tally);
        tally.grants += 1;
        if same {
            tally.again += 1;
        } else if released != 0 {
            let _ = tally.extra.record(got.saturating_sub(released));
            let _ = tally.takeover.record(got - asked);
        }
    }
    hold(plan).await;
    shared.holders.fetch_sub(1, SeqCst);
    shared.released_at.store(shared.now(), SeqCst);
    counted
}

/// W4: a writer must be alone with the name, a reader without writers.
async fn inside_by_mode(op: &Op, plan: &Plan, shared: &Shared) {
    let Some(cell) = usize::try_from(op.name).ok().and_then(|name| shared.inside.get(name)) else { return };
    let weight = if op.reads { 1 } else { WRITER };
    let before = cell.fetch_add(weight, SeqCst);
    let bad = if op.reads { before >= WRITER } else { before != 0 };
    if bad {
        shared.violations.fetch_add(1, Relaxed);
    }
    hold(plan).await;
    cell.fetch_sub(weight, SeqCst);
}

async fn hold(plan: &Plan) {
    if !plan.hold.is_zero() {
        tokio::time::sleep(plan.hold).await;
    }
}

fn kept(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn claims() -> (Claim, Claim) {
    let modes = built_in("vms").map(|modes| (modes.shared(), modes.exclusive())).unwrap_or_default();
    (Claim::Mode(modes.0), Claim::Mode(modes.1))
}

impl Shared {
    pub(crate) fn new(plan: &Plan) -> Shared {
        let nanos = |seconds: f64| Duration::from_secs_f64(seconds).as_nanos() as u64;
        let names = if plan.workload == Workload::W4 { plan.names } else { 0 };
        Shared {
            start: Instant::now(),
            from: nanos(plan.warmup),
            until: nanos(plan.warmup + plan.seconds),
            stop: AtomicBool::new(false),
            measuring: AtomicBool::new(false),
            holders: AtomicI64::new(0),
            released_at: AtomicU64::new(0),
            releaser: AtomicUsize::new(usize::MAX),
            violations: AtomicU64::new(0),
            inside: (0..names).map(|_| AtomicI64::new(0)).collect(),
        }
    }

    pub(crate) fn set_measuring(&self, measuring: bool) {
        self.measuring.store(measuring, Relaxed);
    }

    /// Ends all clients after the op they are at.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }

    /// For ops that are not timed: whether they count.
    pub(super) fn is_measuring(&self) -> bool {
        self.measuring.load(Relaxed)
    }

    pub(crate) fn violations(&self) -> u64 {
        self.violations.load(SeqCst)
    }

    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Tally {
    pub(crate) fn new() -> Tally {
        Tally {
            ops: 0,
            pair: histogram(),
            acquire: histogram(),
            release: histogram(),
            extra: histogram(),
            takeover: histogram(),
            grants: 0,
            again: 0,
        }
    }

    pub(crate) fn add(&mut self, other: &Tally) {
        let pairs = [
            (&mut self.pair, &other.pair),
            (&mut self.acquire, &other.acquire),
            (&mut self.release, &other.release),
            (&mut self.extra, &other.extra),
            (&mut self.takeover, &other.takeover),
        ];
        for (all, one) in pairs {
            // Fails only for histograms that do not grow; these do.
            let _ = all.add(one);
        }
        self.ops += other.ops;
        self.grants += other.grants;
        self.again += other.again;
    }
}

/// xorshift64*: numbers that need not be good, only cheap and the same in every run.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D);
        // The high half of the product: no division.
        ((u128::from(number) * u128::from(bound)) >> 64) as u64
    }
}
