//! Locks that are held from before whatever a test does until after it, and somebody who waits for each of them: a master that
//! takes slots over must know of both. Beside the counters, whose locks are held too shortly to be sure that one is held when
//! a master dies.

use core::time::Duration;
use std::{
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::Instant,
};

use lockstead::{Client, Error, Guard, Token};
use tokio::{sync::watch, task::LocalSet};

use crate::{
    common::{LONG, until},
    work::Role,
};

/// How many, so that each of a few masters has some.
const HOSTAGES: usize = 24;
/// The holder looks so often whether it still holds them.
const LOOK: Duration = Duration::from_millis(20);

/// A holder of all, and one that waits for all.
pub(crate) struct Hostages {
    world: Arc<World>,
    release: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
}

struct World {
    held: Mutex<Vec<Held>>,
    wrong: Mutex<Vec<String>>,
}

/// What the holder knows of one of its locks.
#[derive(Clone)]
struct Held {
    token: Token,
    /// Its lease lasts until then by its own clock, or it has let go.
    until: Option<Instant>,
    lost: bool,
    passed_on: bool,
}

impl Hostages {
    /// Takes them, and has somebody wait for them.
    pub(crate) fn take(role: &Role) -> Hostages {
        let held = vec![Held { token: Token::NONE, until: None, lost: false, passed_on: false }; HOSTAGES];
        let world = Arc::new(World { held: Mutex::new(held), wrong: Mutex::new(Vec::new()) });
        let (release, released) = watch::channel(false);
        let (ready, is_ready) = std::sync::mpsc::channel();
        let holder = {
            let (world, role, ready) = (Arc::clone(&world), role.clone(), ready.clone());
            std::thread::spawn(move || run(&role, async move |client| hold(world, client, released, ready).await))
        };
        is_ready.recv_timeout(LONG).expect("the holder has them all");
        let waiter = {
            let (world, role) = (Arc::clone(&world), role.clone());
            std::thread::spawn(move || run(&role, async move |client| wait(world, client, ready).await))
        };
        is_ready.recv_timeout(LONG).expect("the other has asked for them all");
        Hostages { world, release, threads: vec![holder, waiter] }
    }

    /// Lets go of them; the other gets each of them now, and did not before. Gives what is wrong, and how many sessions the holder has lost.
    pub(crate) fn finish(self) -> (Vec<String>, u64) {
        let _ = self.release.send(true);
        for thread in self.threads {
            until("the hostages are passed on", LONG, || thread.is_finished().then_some(()));
            thread.join().expect("no panic");
        }
        let mut wrong = core::mem::take(&mut *lock(&self.world.wrong));
        let held = lock(&self.world.held);
        let kept_back = held.iter().filter(|held| !held.passed_on).count();
        if kept_back > 0 {
            wrong.push(format!("{kept_back} hostages were not passed on"));
        }
        (wrong, held.iter().any(|held| held.lost).into())
    }
}

async fn hold(
    world: Arc<World>,
    client: Rc<Client>,
    mut released: watch::Receiver<bool>,
    ready: std::sync::mpsc::Sender<()>,
) {
    let mut guards: Vec<Guard> = Vec::new();
    for number in 0..HOSTAGES {
        let guard = client.lock(name(number)).await.expect("granted");
        lock(&world.held)[number].token = guard.token();
        guards.push(guard);
    }
    look(&world, &guards);
    let _ = ready.send(());
    while tokio::time::timeout(LOOK, released.wait_for(|released| *released)).await.is_err() {
        look(&world, &guards);
    }
    look(&world, &guards);
    for (number, guard) in guards.into_iter().enumerate() {
        lock(&world.held)[number].until = None;
        let _ = guard.release().await;
    }
}

/// Notes until when the holder may count on its locks.
fn look(world: &World, guards: &[Guard]) {
    let mut held = lock(&world.held);
    for (held, guard) in held.iter_mut().zip(guards) {
        let now = Instant::now();
        held.until = match guard.check() {
            Ok(()) => Some(now + guard.deadline().unwrap_or_default()),
            Err(_) => None,
        };
        held.lost |= held.until.is_none();
    }
}

async fn wait(world: Arc<World>, client: Rc<Client>, ready: std::sync::mpsc::Sender<()>) {
    let one = |number: usize| {
        let (world, client) = (Arc::clone(&world), Rc::clone(&client));
        tokio::task::spawn_local(async move {
            match client.lock(name(number)).await {
                Ok(guard) => world.pass_on(number, guard.token()),
                Err(Error::Lost(_)) => lock(&world.held)[number].passed_on = true,
                Err(error) => lock(&world.wrong).push(format!("hostage {number} was not granted: {error}")),
            }
        })
    };
    let all: Vec<_> = (0..HOSTAGES).map(one).collect();
    // Each has been asked for when what was asked after them is answered.
    client.sync().await.expect("connected");
    let _ = ready.send(());
    for one in all {
        one.await.expect("no panic");
    }
}

impl World {
    fn pass_on(&self, number: usize, token: Token) {
        let (now, held) = (Instant::now(), &mut lock(&self.held)[number]);
        held.passed_on = true;
        if let Some(left) = held.until.and_then(|until| until.checked_duration_since(now)) {
            let what = format!("hostage {number}: granted under {token}, held under {} for {left:?} more", held.token);
            lock(&self.wrong).push(what);
        }
        if token <= held.token {
            lock(&self.wrong).push(format!("hostage {number}: token {token} after {}", held.token));
        }
    }
}

/// Does something with a client of this role, on this thread.
pub(crate) fn run<T>(role: &Role, act: impl AsyncFnOnce(Rc<Client>) -> T) -> T {
    (role.first)();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        let client = Client::builder().endpoints(&role.endpoints).ttl(role.ttl).connect().await.expect("connects");
        let client = Rc::new(client);
        let done = act(Rc::clone(&client)).await;
        if let Some(client) = Rc::into_inner(client) {
            let _ = client.close().await;
        }
        done
    })
}

fn name(number: usize) -> String {
    format!("hostage/{number}")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
