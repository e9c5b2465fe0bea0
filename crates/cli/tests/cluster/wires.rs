//! Wires between nodes that are slow: programs in between that pass everything on, links of nodes after a delay. What the members
//! agree on goes by other connections of the same port, and at full speed: so a takeover can be made long without
//! being noticed late.

use core::{
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    time::Duration,
};
use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{Arc, mpsc},
    thread,
    time::Instant,
};

use lockstead_wire::LINK_MAGIC;

use crate::common::pass;

/// Chunks on their way in one direction.
const ON_THE_WAY: usize = 4_096;

/// All wires of a cluster. They are there until the test's process ends.
#[derive(Clone, Default)]
pub(crate) struct Wires {
    delay: Arc<AtomicU64>,
}

impl Wires {
    /// A wire from the first port to the second.
    pub(crate) fn lay(&self, from: u16, to: u16) {
        let listener = TcpListener::bind(("127.0.0.1", from)).expect("the port is free");
        let delay = Arc::clone(&self.delay);
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let delay = Arc::clone(&delay);
                thread::spawn(move || connect(near, to, &delay));
            }
        });
    }

    /// From now on what nodes say over their links takes so long, each way.
    pub(crate) fn slow(&self, delay: Duration) {
        self.delay.store(delay.as_millis().try_into().expect("short"), SeqCst);
    }
}

fn connect(mut near: TcpStream, to: u16, delay: &Arc<AtomicU64>) {
    let mut magic = [0; 8];
    // Nobody there: the near end finds that its connection is over.
    let Ok(mut far) = TcpStream::connect(("127.0.0.1", to)) else { return };
    if near.read_exact(&mut magic).and_then(|()| far.write_all(&magic)).is_err() {
        return;
    }
    let delay = if magic == LINK_MAGIC { Arc::clone(delay) } else { Arc::default() };
    for stream in [&near, &far] {
        stream.set_nodelay(true).expect("set");
    }
    let ends = (near.try_clone().expect("a handle"), far.try_clone().expect("a handle"));
    let back = Arc::clone(&delay);
    thread::spawn(move || carry(ends.1, ends.0, &back));
    carry(near, far, &delay);
}

/// Until one end closes; then both are.
fn carry(mut from: TcpStream, mut to: TcpStream, delay: &AtomicU64) {
    let (put, take) = mpsc::sync_channel::<(Instant, Vec<u8>)>(ON_THE_WAY);
    let other_end = from.try_clone().expect("a handle");
    let deliver = thread::spawn(move || {
        for (due, bytes) in take {
            pass(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = (to.shutdown(Shutdown::Both), other_end.shutdown(Shutdown::Both));
    });
    let mut bytes = vec![0; 64 * 1_024];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        let due = Instant::now() + Duration::from_millis(delay.load(SeqCst));
        if put.send((due, bytes[..length].to_vec())).is_err() {
            break;
        }
    }
    drop(put);
    let _ = deliver.join();
}
