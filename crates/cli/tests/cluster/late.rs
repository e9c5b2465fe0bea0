//! What comes late: the release of a lock that is another's by now.

use std::process::Stdio;

use lockstead_types::Span;

use crate::{
    bare::Bare,
    common::{LONG, Process, until},
    nodes::Cluster,
    work::Work,
};

/// A holder that keeps the lock until it is dropped, and its token.
fn hold(cluster: &Cluster, name: &str) -> (Process, u64) {
    let _ = std::fs::remove_file(cluster.file("held"));
    let script = r#"echo "$LOCKSTEAD_TOKEN" > held.new; mv held.new held; exec sleep 1000"#;
    let args = ["lock", "-w", "30", name, "--", "sh", "-c", script];
    let holder = Process::spawn(cluster.command(&args).stderr(Stdio::null()));
    let token = until("it holds the lock", LONG, || cluster.read("held")?.parse().ok());
    (holder, token)
}

fn is_free(cluster: &Cluster, name: &str) -> bool {
    let status = cluster.command(&["lock", "-w", "0", name, "--", "true"]).stderr(Stdio::null()).status();
    status.expect("runs").success()
}

/// F31: a release that comes when the lock is another's, by a session that has ended and by one that goes on, changes nothing: at each
/// home, whoever masters the lock.
#[test]
fn f31_a_stale_release_takes_nothing_from_who_holds_it_now() {
    let cluster = Cluster::of(3);
    let work = Work::start(&cluster.endpoints(), 3, 6);
    for node in cluster.all() {
        let (ended, living) = (format!("ended/{node}"), format!("living/{node}"));
        let mut late = Bare::open(&cluster.address(node), u128::from(node) << 64, Span::from_secs(1));
        let (lock, old) = late.lock(&ended);
        // Granted as soon as the lease that nobody renewed is over.
        let (_holder, new) = hold(&cluster, &ended);
        assert!(new > old.as_u64(), "{new} after {old}");
        assert_ne!(late.release(lock), Some(Ok(())), "its session is over");
        assert!(!is_free(&cluster, &ended), "who holds it now has lost it");

        let mut late = Bare::open(&cluster.address(node), (u128::from(node) << 64) + 1, Span::from_secs(60));
        let (lock, old) = late.lock(&living);
        assert_eq!(late.release(lock), Some(Ok(())));
        let (_other, new) = hold(&cluster, &living);
        assert!(new > old.as_u64(), "{new} after {old}");
        assert!(matches!(late.release(lock), Some(Err(_))), "released a second time");
        assert!(!is_free(&cluster, &living), "who holds it now has lost it");
    }
    work.go_on(3);
    assert_eq!(work.finish().lost, 0);
}
