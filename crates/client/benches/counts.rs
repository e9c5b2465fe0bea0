//! The instructions of locks in the embedded engine, and of client and server together over a socket, for callgrind: `--cases` prints what there is, `CASE N` sets up and
//! then runs it N times. `cargo xtask bench` takes the difference of two runs. `--times` prints nanoseconds instead,
//! of the processor's time of this thread, beside those of a plain mutex.

use core::{
    future::IntoFuture,
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
};
use std::process::ExitCode;

use lockstead::{Claim, Client, Engine, Flags, raw::RawSession};
use lockstead_server::{Server, ServerConfig};
use lockstead_types::{
    Mode, SpaceId,
    reply::Reply,
    request::{LockRequest, Op, OwnerRef, ReleaseRequest, Wait},
};

type Case = fn(&Client, u64);

const CASES: &[(&str, Case)] = &[
    ("embedded lock+drop, one name", one_name),
    ("embedded lock+release, one name", one_name_released),
    ("embedded lock+drop, random of 1,000,000", random_names),
    ("embedded convert up and down", conversions),
];

/// Client and server in this process, over a Unix socket. How much is read at once is chance, so these vary by a few per
/// cent.
const REMOTE: &[(&str, usize, bool)] = &[
    ("remote lock+release, 64 at once", 64, false),
    ("remote lock+one-way release, 64 at once", 64, true),
    ("remote lock+one-way release, one at once", 1, true),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--times"] => times(),
        [name, times] => {
            let case = CASES.iter().find(|(known, _)| known == name);
            let remote = REMOTE.iter().find(|(known, ..)| known == name);
            match (case, remote, times.parse()) {
                (Some((_, case)), _, Ok(times)) => case(&Engine::embedded().client(), times),
                (None, Some((_, tasks, one_way)), Ok(times)) => over_a_socket(*tasks, *one_way, times),
                _ => {
                    eprintln!("no such case, or no number: {name} {times}");
                    return ExitCode::FAILURE;
                }
            }
        }
        _ => {
            CASES.iter().for_each(|(name, _)| println!("{name}"));
            REMOTE.iter().for_each(|(name, ..)| println!("{name}"));
        }
    }
    ExitCode::SUCCESS
}

/// A future of the embedded engine whose lock is free is done at its first poll: no runtime is needed.
fn at_once<F: IntoFuture>(future: F) -> F::Output {
    match pin!(future.into_future()).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}

fn one_name(client: &Client, times: u64) {
    for _ in 0..times {
        drop(black_box(at_once(client.lock(b"orders/page:5/row:17")).expect("free")));
    }
}

fn one_name_released(client: &Client, times: u64) {
    for _ in 0..times {
        let guard = at_once(client.lock(b"orders/page:5/row:17")).expect("free");
        at_once(guard.release()).expect("held");
    }
}

fn random_names(client: &Client, times: u64) {
    let mut state = 1_u64;
    for _ in 0..times {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let mut name = *b"name00000000";
        name[4..].copy_from_slice(&(state % 1_000_000).to_be_bytes());
        drop(black_box(at_once(client.lock(name)).expect("free")));
    }
}

fn conversions(client: &Client, times: u64) {
    let mut guard = at_once(client.lock(b"orders").shared()).expect("free");
    for _ in 0..times {
        at_once(guard.convert("EX")).expect("alone");
        at_once(guard.convert("PR")).expect("alone");
    }
}

fn over_a_socket(tasks: usize, one_way: bool, times: u64) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("run").join("client.sock");
    let config = ServerConfig { client_unix: Some(path.clone()), ..ServerConfig::default() };
    let server = Server::start(config).expect("it starts");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let client = Client::connect(&format!("unix:{}", path.display())).await.expect("a session");
        let share = times / tasks as u64;
        let running: Vec<_> = (0..tasks)
            .map(|task| {
                let session = client.raw();
                tokio::spawn(async move {
                    let name = format!("orders/page:5/row:{task:02}");
                    for _ in 0..share {
                        cycle(&session, name.as_bytes(), one_way).await;
                    }
                })
            })
            .collect();
        for task in running {
            task.await.expect("it ends");
        }
        client.close().await.expect("closed");
    });
    server.stop().expect("a clean stop");
}

async fn cycle(session: &RawSession, name: &[u8], one_way: bool) {
    let request = LockRequest {
        space: SpaceId(0),
        name,
        claim: Claim::Mode(Mode(5)),
        wait: Wait::Forever,
        flags: Flags::NONE,
        owner: OwnerRef::Alone,
        tag: 0,
        priority: 0,
    };
    let mut pending = session.submit(Op::Lock(request)).expect("asked");
    let Some(Reply::Granted(grant)) = pending.next().await else { panic!("free") };
    let release = ReleaseRequest { lock: grant.lock, flags: Flags::NONE, value: None };
    if one_way {
        return session.post(Op::Release { release, one_way });
    }
    let mut pending = session.submit(Op::Release { release, one_way }).expect("asked");
    assert_eq!(pending.next().await, Some(Reply::Released));
}

const CYCLES: u64 = 1_000_000;
/// Of so many timings the best counts: the others were disturbed.
const ROUNDS: usize = 7;

fn times() {
    for (name, case) in CASES {
        let client = Engine::embedded().client();
        println!("{name:40} {:8.1} ns", best(|| case(&client, CYCLES)));
    }
    let mutex = parking_lot::Mutex::new(0_u64);
    let lock = || (0..CYCLES).for_each(|_| *black_box(&mutex).lock() += 1);
    println!("{:40} {:8.1} ns", "a mutex of parking_lot", best(lock));
}

fn best(run: impl Fn()) -> f64 {
    let rounds = (0..ROUNDS).map(|_| {
        let start = ran();
        run();
        (ran() - start) as f64 / CYCLES as f64
    });
    rounds.fold(f64::INFINITY, f64::min)
}

/// Nanoseconds this thread has run on a processor: others on the machine do not count.
fn ran() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0)
}
