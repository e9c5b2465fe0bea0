//! What the table costs: nanoseconds of a lock and release of random names, of one name, of conversions, of a hand-over;
//! bytes of a resource, a further lock, a waiter.
//!
//! `cargo bench -p lockstead-table [-- --names 10000000]` prints one line a figure.
#![allow(unsafe_code)]

use core::{
    alloc::{GlobalAlloc, Layout},
    hint::black_box,
    sync::atomic::{AtomicUsize, Ordering},
};
use std::{alloc::System, sync::Arc, time::Instant};

use lockstead_table::{Effect, Outcome, OwnerId, Space, Table};
use lockstead_types::{
    Flags, Limits, LockId, Mode, SpaceId, Time,
    request::{Claim, ConvertRequest, LockRequest, OwnerRef, ReleaseRequest, Wait},
    space::{DeadlockPolicy, QueuePolicy, VictimPolicy},
    tables::built_in,
};

struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);
static CALLS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator as it came; the counters touch no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        CALLS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise about `layout` is what the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: `at` came from `alloc` above with the same `layout`.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PR: Mode = Mode(3);
const EX: Mode = Mode(5);
const NOW: Time = Time::from_nanos(1_000_000_000);
const CYCLES: u64 = 4_000_000;

fn table() -> Table {
    let mut table = Table::new(Limits::default(), 1, 0x5EED);
    let space = Space {
        modes: Arc::new(built_in("vms").expect("built in")),
        policy: QueuePolicy::Vms,
        deadlock: DeadlockPolicy::Detect,
        victim: VictimPolicy::Requester,
        value_bytes: 0,
        levels: 0,
        extents: false,
        persistent: false,
    };
    table.add_space(SpaceId(0), space);
    table
}

struct Bench {
    table: Table,
    fx: Vec<Effect>,
    state: u64,
}

impl Bench {
    fn new() -> Bench {
        Bench { table: table(), fx: Vec::with_capacity(64), state: 1 }
    }

    fn random(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    fn lock(&mut self, owner: OwnerId, name: &[u8], mode: Mode, kind: OwnerRef) -> LockId {
        let req = LockRequest {
            space: SpaceId(0),
            name,
            claim: Claim::Mode(mode),
            wait: Wait::Forever,
            flags: Flags::NONE,
            owner: kind,
            tag: 0,
            priority: 0,
        };
        match self.table.lock(NOW, owner, 0, &req, &mut self.fx) {
            Ok(Outcome::Granted(grant)) => grant.lock,
            Ok(Outcome::Queued(lock)) => lock,
            other => panic!("{other:?}"),
        }
    }

    fn release(&mut self, owner: OwnerId, lock: LockId) {
        let req = ReleaseRequest { lock, flags: Flags::NONE, value: None };
        self.table.release(NOW, owner, &req, &mut self.fx).expect("released");
    }

    fn convert(&mut self, owner: OwnerId, lock: LockId, mode: Mode) {
        let req = ConvertRequest { lock, mode, wait: Wait::Forever, flags: Flags::NONE, value: None };
        black_box(self.table.convert(NOW, owner, 0, &req, &mut self.fx).expect("converted"));
    }
}

fn name_of(n: u64) -> [u8; 12] {
    let mut name = *b"name00000000";
    name[4..].copy_from_slice(&n.to_be_bytes());
    name
}

/// Nanoseconds this thread has run on a processor: others on the machine do not count. Where the system does not say, the
/// clock on the wall.
fn ran(start: Instant) -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = text.split(' ').next().and_then(|n| n.parse().ok());
    first.unwrap_or_else(|| start.elapsed().as_nanos() as u64)
}

fn timed(what: &str, count: u64, run: impl FnOnce()) {
    let (calls, clock) = (CALLS.load(Ordering::Relaxed), Instant::now());
    let start = ran(clock);
    run();
    let nanos = (ran(clock) - start) as f64 / count as f64;
    let calls = (CALLS.load(Ordering::Relaxed) - calls) as f64 / count as f64;
    println!("{what:<52} {nanos:8.1} ns  {calls:.3} allocations");
}

/// Lock and release of random names, each made and gone again; beside `held` others that stay.
fn random_names(names: u64) {
    let mut bench = Bench::new();
    let owner = bench.table.add_owner();
    for n in 0..1_000 {
        let lock = bench.lock(owner, &name_of(n), EX, OwnerRef::Session);
        bench.release(owner, lock);
    }
    timed(&format!("lock + release, random of {names}, created each time"), CYCLES, || {
        for _ in 0..CYCLES {
            let name = name_of(bench.random() % names);
            let lock = bench.lock(owner, &name, EX, OwnerRef::Session);
            bench.release(owner, lock);
        }
    });
}

/// The same while every name is held by another owner in PR: the resource is there, and cold.
fn held_names(names: u64) {
    let mut bench = Bench::new();
    let (holder, owner) = (bench.table.add_owner(), bench.table.add_owner());
    let before = BYTES.load(Ordering::Relaxed);
    for n in 0..names {
        bench.lock(holder, &name_of(n), PR, OwnerRef::Session);
    }
    let bytes = (BYTES.load(Ordering::Relaxed) - before) as f64 / names as f64;
    println!("{:<52} {bytes:8.1} bytes", format!("a resource with one lock, 12-byte name, {names}"));
    timed(&format!("lock + release, random of {names} that are held"), CYCLES, || {
        for _ in 0..CYCLES {
            let name = name_of(bench.random() % names);
            let lock = bench.lock(owner, &name, PR, OwnerRef::Session);
            bench.release(owner, lock);
        }
    });
}

fn one_name() {
    let mut bench = Bench::new();
    let owner = bench.table.add_owner();
    timed("lock + release, one name", CYCLES, || {
        for _ in 0..CYCLES {
            let lock = bench.lock(owner, b"orders/7", EX, OwnerRef::Session);
            bench.release(owner, lock);
        }
    });
    let lock = bench.lock(owner, b"orders/7", PR, OwnerRef::Session);
    timed("convert PR > EX > PR, alone", CYCLES, || {
        for _ in 0..CYCLES {
            bench.convert(owner, lock, EX);
            bench.convert(owner, lock, PR);
        }
    });
}

/// Sixteen owners pass one lock around: each release grants the next, who queues again.
fn hand_over() {
    let mut bench = Bench::new();
    let owners: Vec<OwnerId> = (0..16).map(|_| bench.table.add_owner()).collect();
    let mut queue: std::collections::VecDeque<(OwnerId, LockId)> = owners.iter().map(|o| (*o, LockId(0))).collect();
    for entry in &mut queue {
        entry.1 = bench.lock(entry.0, b"hot", EX, OwnerRef::Session);
    }
    timed("hand-over of one lock among 16 that wait", CYCLES, || {
        for _ in 0..CYCLES {
            let Some((owner, lock)) = queue.pop_front() else { return };
            bench.release(owner, lock);
            let lock = bench.lock(owner, b"hot", EX, OwnerRef::Session);
            queue.push_back((owner, lock));
            bench.fx.clear();
        }
    });
}

fn crowds(count: u64) {
    let mut bench = Bench::new();
    let owner = bench.table.add_owner();
    bench.lock(owner, b"shared", PR, OwnerRef::Alone);
    let before = BYTES.load(Ordering::Relaxed);
    for _ in 0..count {
        bench.lock(owner, b"shared", PR, OwnerRef::Alone);
    }
    let bytes = (BYTES.load(Ordering::Relaxed) - before) as f64 / count as f64;
    println!("{:<52} {bytes:8.1} bytes", "a further lock of a resource");
    let before = BYTES.load(Ordering::Relaxed);
    let waiters = count.min(u64::from(bench.table.limits().waiters_per_resource));
    let clock = Instant::now();
    let start = ran(clock);
    for _ in 0..waiters {
        bench.lock(owner, b"shared", EX, OwnerRef::Alone);
        bench.fx.clear();
    }
    let nanos = (ran(clock) - start) as f64 / waiters as f64;
    // The notices to all the holders are the caller's.
    bench.fx = Vec::new();
    let bytes = (BYTES.load(Ordering::Relaxed) - before) as f64 / waiters as f64;
    println!("{:<52} {bytes:8.1} bytes  {nanos:.1} ns to queue", format!("a waiter, behind {waiters}"));
}

fn main() {
    let asked: Option<u64> = std::env::args().skip_while(|a| a != "--names").nth(1).and_then(|n| n.parse().ok());
    one_name();
    hand_over();
    for names in asked.map_or_else(|| vec![1_000, 1_000_000, 10_000_000], |n| vec![n]) {
        random_names(names);
        held_names(names);
    }
    crowds(100_000);
}
