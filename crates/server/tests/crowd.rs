//! Ten thousand connections that do nothing, and one client that works.

mod common;

use core::time::Duration;
use std::{fs, net::TcpStream, time::Instant};

use common::{EX, config, start, tcp};
use lockstead_types::Span;

/// How many connections this process may have: each costs it two files, one at either end.
fn affordable() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").expect("Linux");
    let line = limits.lines().find(|l| l.starts_with("Max open files")).expect("a limit");
    // The server raised the soft limit to the hard one when it started.
    let soft: usize = line.split_whitespace().nth(3).and_then(|n| n.parse().ok()).expect("a number");
    let wanted = 10_000;
    let can = soft.saturating_sub(200) / 2;
    if can < wanted {
        println!("only {can} of {wanted} connections: the limit of open files is {soft}");
    }
    can.min(wanted)
}

#[test]
fn idle_and_half_open_connections_hurt_nobody() {
    let server = start(config());
    let count = affordable();
    let address = server.client_tcp().expect("listens on TCP");
    let mut worker = tcp(&server).open(1, Span::from_secs(600));
    let mut silent = Vec::new();
    let mut idle = Vec::new();
    let mut worst = Duration::ZERO;
    for i in 0..count {
        if i % 2 == 0 {
            silent.push(TcpStream::connect(address).expect("connects"));
        } else {
            idle.push(tcp(&server).open(i as u128 + 10, Span::from_secs(600)));
        }
        if i % 50 == 0 {
            worst = worst.max(cycle(&mut worker));
        }
    }
    let mut times: Vec<Duration> = (0..1_000).map(|_| cycle(&mut worker)).collect();
    times.sort();
    println!("{count} connections: median {:?}, 99 % {:?}, worst while they came {worst:?}", times[500], times[990]);
    assert!(times[500] < Duration::from_millis(20), "{:?}", times[500]);
    assert!(worst < Duration::from_secs(2), "{worst:?}");
    let last = idle.last_mut().expect("some");
    last.lock("of an idle one", EX);
}

fn cycle(worker: &mut common::Peer) -> Duration {
    let start = Instant::now();
    let held = worker.lock("work", EX);
    worker.release(held.lock);
    start.elapsed()
}
