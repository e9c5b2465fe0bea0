//! One run: threads, connections, the clock around them, and what comes of it.
//!
//! Each thread has a runtime of its own, and its connections stay on it: an answer never wakes another thread.

use core::{net::SocketAddr, time::Duration};
use std::{
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use lockstead::{Client, Engine};
use tokio::sync::oneshot;

use super::{
    Plan,
    crew::Crew,
    frames::Frames,
    locker::Locker,
    machine::{Cpu, pid_listening_on},
    work::{Shared, Tally, work},
};
use crate::{
    connect::{About, builder, explain},
    exit::{Exit, Failure},
};

/// How long clients may take to end after the measurement.
const END_FOR: Duration = Duration::from_secs(10);
/// How long threads may take to connect.
const CONNECT_FOR: Duration = Duration::from_secs(60);

/// A run.
pub(crate) struct Measured {
    pub(crate) all: Tally,
    pub(crate) per_client: Vec<u64>,
    pub(crate) violations: u64,
    pub(crate) stuck: u64,
    pub(crate) errors: Vec<String>,
    pub(crate) cpu: Cpu,
    pub(crate) transport: &'static str,
}

/// What a thread has connected to.
struct Reached {
    pid: Option<u32>,
    transport: &'static str,
}

/// What a thread's clients did.
struct Part {
    tally: Tally,
    per_client: Vec<u64>,
    errors: Vec<String>,
    stuck: u64,
}

/// Runs a plan.
///
/// # Errors
/// Where clients cannot connect.
pub(crate) fn measure(plan: &Arc<Plan>) -> Result<Measured, Failure> {
    let engine = plan.embedded.then(Engine::embedded);
    let (tell, told) = mpsc::channel();
    let mut threads = Vec::with_capacity(plan.threads);
    for index in 0..plan.threads.min(plan.conns) {
        let (start, started) = oneshot::channel();
        let (plan, engine, tell) = (Arc::clone(plan), engine.clone(), tell.clone());
        let thread = thread::Builder::new().name(format!("bench-{index}"));
        let thread = thread.spawn(move || run_thread(index, &plan, engine.as_ref(), &tell, started))?;
        threads.push((start, thread));
    }
    drop(tell);
    let mut reached = Reached { pid: None, transport: "embedded" };
    for _ in &threads {
        let answer = told.recv_timeout(CONNECT_FOR);
        reached = answer.map_err(|_| Exit::Unavailable.because("not all connections could be made in time"))??;
    }
    let server = plan.server_pid.or(reached.pid).or_else(|| if plan.embedded { None } else { pid_behind(plan) });
    let shared = Arc::new(Shared::new(plan));
    let mut running = Vec::with_capacity(threads.len());
    for (start, thread) in threads {
        // A thread that is gone shows itself when it is joined.
        let _ = start.send(Arc::clone(&shared));
        running.push(thread);
    }
    sleep_until(&shared, shared.from);
    let before = Cpu::now(server);
    shared.set_measuring(true);
    sleep_until(&shared, shared.until);
    shared.set_measuring(false);
    let cpu = Cpu::now(server).since(before);
    shared.stop();
    let mut measured = Measured {
        all: Tally::new(),
        per_client: Vec::with_capacity(plan.clients),
        violations: 0,
        stuck: 0,
        errors: Vec::new(),
        cpu,
        transport: reached.transport,
    };
    for thread in running {
        let part = thread.join().map_err(|_| Exit::Failed.because("a thread of the bench ended badly"))?;
        measured.add(part?);
    }
    measured.violations = shared.violations();
    Ok(measured)
}

fn sleep_until(shared: &Shared, nanos: u64) {
    thread::sleep(Duration::from_nanos(nanos).saturating_sub(shared.start.elapsed()));
}

/// A thread's part: every connection whose number is its own modulo the number of threads.
fn run_thread(
    index: usize,
    plan: &Arc<Plan>,
    engine: Option<&Engine>,
    tell: &mpsc::Sender<Result<Reached, Failure>>,
    started: oneshot::Receiver<Arc<Shared>>,
) -> Result<Part, Failure> {
    if plan.frames {
        return run_frames(index, plan, tell, started);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let part = runtime.block_on(async {
        let clients = match connect(index, plan, engine).await {
            Ok(clients) => clients,
            Err(failure) => {
                let _ = tell.send(Err(failure));
                return Ok(Part::new());
            }
        };
        let _ = tell.send(Ok(reached(plan, &clients)));
        // The run is given up where another thread could not connect.
        let Ok(shared) = started.await else { return Ok(Part::new()) };
        let part = drive(plan, &shared, &clients).await;
        for (_, client) in clients {
            let _ = tokio::time::timeout(Duration::from_secs(1), client.close()).await;
        }
        part
    });
    runtime.shutdown_timeout(Duration::from_millis(200));
    part
}

/// The same with [`Frames`]: a thread is one connection.
fn run_frames(
    index: usize,
    plan: &Plan,
    tell: &mpsc::Sender<Result<Reached, Failure>>,
    started: oneshot::Receiver<Arc<Shared>>,
) -> Result<Part, Failure> {
    let frames = match Frames::open(plan, format!("bench/{:x}/", std::process::id())) {
        Ok(frames) => frames,
        Err(failure) => {
            let _ = tell.send(Err(failure));
            return Ok(Part::new());
        }
    };
    let transport = if frames.is_local() { "unix" } else { "tcp" };
    let _ = tell.send(Ok(Reached { pid: frames.peer(), transport }));
    let mut part = Part::new();
    // The run is given up where another thread could not connect.
    let Ok(shared) = started.blocking_recv() else { return Ok(part) };
    match frames.work(plan, &shared, index) {
        Ok(tally) => {
            part.per_client.push(tally.ops);
            part.tally = tally;
        }
        Err(failure) => part.errors.push(failure.message),
    }
    Ok(part)
}

async fn connect(index: usize, plan: &Plan, engine: Option<&Engine>) -> Result<Vec<(usize, Client)>, Failure> {
    let mut clients = Vec::new();
    for conn in (index..plan.conns).step_by(plan.threads) {
        let client = match engine {
            Some(engine) => engine.client(),
            None => {
                let client = builder(&plan.connect, Duration::from_secs(5)).purpose("bench").connect().await;
                client.map_err(|error| explain(error, &About::Service))?
            }
        };
        clients.push((conn, client));
    }
    Ok(clients)
}

fn reached(plan: &Plan, clients: &[(usize, Client)]) -> Reached {
    let socket = clients.first().and_then(|(_, client)| client.unix_socket());
    let behind = socket.as_ref().and_then(|socket| rustix::net::sockopt::socket_peercred(socket).ok());
    let transport = match (plan.embedded, &socket) {
        (true, _) => "embedded",
        (false, Some(_)) => "unix",
        (false, None) => "tcp",
    };
    Reached { pid: behind.and_then(|peer| u32::try_from(peer.pid.as_raw_nonzero().get()).ok()), transport }
}

/// The process that listens on the address we connect to, where it is one of this host.
fn pid_behind(plan: &Plan) -> Option<u32> {
    let first = plan.connect.endpoints.split(',').next()?.trim();
    let address = first.strip_prefix("tcp://").unwrap_or(first);
    let port = match address.parse::<SocketAddr>() {
        Ok(address) => Some(address).filter(|address| address.ip().is_loopback()).map(|address| address.port()),
        Err(_) => address.strip_prefix("localhost:").and_then(|port| port.parse().ok()),
    };
    pid_listening_on(port?)
}

async fn drive(plan: &Arc<Plan>, shared: &Arc<Shared>, clients: &[(usize, Client)]) -> Result<Part, Failure> {
    let tally = Arc::new(Mutex::new(Tally::new()));
    let prefix = format!("bench/{:x}/", std::process::id());
    let mut crews = Vec::with_capacity(clients.len());
    for (conn, client) in clients {
        let locker = Locker::new(client, plan.release, prefix.clone());
        let mine = (*conn..plan.clients).step_by(plan.conns);
        let size = mine.len() as u64;
        let members = mine.map(|id| work(locker.clone(), id, Arc::clone(plan), Arc::clone(shared), Arc::clone(&tally)));
        crews.push((size, tokio::spawn(Crew::new(members))));
    }
    let measured_for = Duration::from_nanos(shared.until).saturating_sub(shared.start.elapsed());
    let deadline = tokio::time::Instant::now() + measured_for + END_FOR;
    let mut part = Part::new();
    for (size, mut crew) in crews {
        let Ok(ends) = tokio::time::timeout_at(deadline, &mut crew).await else {
            crew.abort();
            part.stuck += size;
            continue;
        };
        for end in ends.map_err(|error| Exit::Failed.because(error.to_string()))? {
            part.per_client.push(end.count);
            part.errors.extend(end.error);
        }
    }
    part.tally.add(&tally.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(part)
}

impl Part {
    fn new() -> Part {
        Part { tally: Tally::new(), per_client: Vec::new(), errors: Vec::new(), stuck: 0 }
    }
}

impl Measured {
    fn add(&mut self, part: Part) {
        self.all.add(&part.tally);
        self.per_client.extend(part.per_client);
        self.errors.extend(part.errors);
        self.stuck += part.stuck;
    }
}
