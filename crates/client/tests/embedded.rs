//! The whole API over the embedded engine.

use core::{future::Future, future::IntoFuture, pin::pin, task::Context, task::Poll, task::Waker, time::Duration};

use lockstead::{
    Claim, Client, Engine, Error, Flags, Lease, Lost, Query, Refusal, SpaceId, SpaceSpec, WatchEvent,
    types::{
        reply::{ChangeEvent, Notice, Reply},
        report::{Report, ResourceDetail},
        request::{LockRequest, Op, OwnerRef, Wait},
    },
};

const SPACE: SpaceId = SpaceId(0);

/// Polls once: what needs no waiting is done by then.
fn poll_once<F: Future>(future: core::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

async fn detail(client: &Client, name: &str) -> Option<ResourceDetail> {
    client.show(SPACE, name).await.expect("a look")
}

async fn waiting(client: &Client, name: &str) -> usize {
    detail(client, name).await.map_or(0, |d| d.waiting.len() + d.converting.len())
}

#[tokio::test]
async fn a_free_lock_is_granted_without_waiting() {
    let engine = Engine::embedded();
    let client = engine.client();
    let mut lock = pin!(client.lock("a").into_future());
    let Poll::Ready(Ok(guard)) = poll_once(lock.as_mut()) else { panic!("must be granted at the first poll") };
    assert_eq!((guard.name(), guard.mode_name(), guard.state()), (&b"a"[..], "EX", Lease::Held));
    assert_eq!(guard.deadline(), None);
    guard.release().await.expect("released");
    assert_eq!(detail(&client, "a").await, None);
    engine.check().expect("sound");
}

#[tokio::test]
async fn try_wait_and_forever() {
    let engine = Engine::embedded();
    let (a, b) = (engine.client(), engine.client());
    let held = a.lock("x").await.expect("free");
    assert!(b.lock("x").try_now().await.expect("asked").is_none());
    let refused = b.lock("x").wait(Duration::from_millis(20)).await.expect_err("held by another");
    assert_eq!(refused.refusal(), Some(Refusal::Timeout));
    let (next, ()) = tokio::join!(b.lock("x").forever(), async { drop(held) });
    let next = next.expect("handed over");
    assert!(next.token() > lockstead::Token::NONE);
    assert_eq!(waiting(&a, "x").await, 0);
}

#[tokio::test]
async fn tokens_rise_over_conflicting_grants() {
    let engine = Engine::embedded();
    let client = engine.client();
    let first = client.lock("t").await.expect("free").token();
    let second = client.lock("t").await.expect("the first was dropped").token();
    assert!(second > first);
}

#[tokio::test]
async fn a_dropped_request_leaves_nothing_behind() {
    let engine = Engine::embedded();
    let (a, b) = (engine.client(), engine.client());
    let held = a.lock("x").await.expect("free");
    {
        let mut lock = pin!(b.lock("x").into_future());
        assert!(poll_once(lock.as_mut()).is_pending());
        assert_eq!(waiting(&a, "x").await, 1);
    }
    assert_eq!(waiting(&a, "x").await, 0);
    {
        // Granted while nobody looks, then dropped: given back.
        let mut lock = pin!(b.lock("x").into_future());
        assert!(poll_once(lock.as_mut()).is_pending());
        held.release().await.expect("released");
        assert_eq!(detail(&a, "x").await.expect("granted to b").granted.len(), 1);
    }
    assert_eq!(detail(&a, "x").await, None);
    engine.check().expect("sound");
}

#[tokio::test]
async fn a_dropped_many_request_leaves_nothing_behind() {
    let engine = Engine::embedded();
    let (a, b) = (engine.client(), engine.client());
    let held = a.lock("m2").await.expect("free");
    {
        let mut many = pin!(b.lock_many(["m1", "m2", "m3"]).into_future());
        assert!(poll_once(many.as_mut()).is_pending());
    }
    assert_eq!(waiting(&a, "m2").await, 0);
    assert_eq!(detail(&a, "m1").await, None, "what it had got is free again");
    drop(held);
    engine.check().expect("sound");
}

#[tokio::test]
async fn conversions() {
    let engine = Engine::embedded();
    let (a, b) = (engine.client(), engine.client());
    let mut one = a.lock("c").shared().await.expect("free");
    let two = b.lock("c").shared().await.expect("compatible");
    assert!(!one.convert("EX").try_now().await.expect("asked"));
    let late = one.convert("EX").wait(Duration::from_millis(20)).await.expect_err("b holds it");
    assert_eq!(late.refusal(), Some(Refusal::Timeout));
    assert_eq!(one.mode_name(), "PR", "as before");
    {
        let mut up = pin!(one.convert("EX").into_future());
        assert!(poll_once(up.as_mut()).is_pending());
    }
    assert_eq!(waiting(&b, "c").await, 0, "a dropped conversion waits no more");
    assert_eq!(one.mode_name(), "PR");
    let token = one.token();
    let (up, ()) = tokio::join!(one.convert("EX").into_future(), async { drop(two) });
    up.expect("granted");
    assert_eq!(one.mode_name(), "EX");
    assert!(one.token() > token);
    let token = one.token();
    one.convert("NL").await.expect("down");
    assert_eq!((one.mode_name(), one.token()), ("NL", token));
    assert!(matches!(one.convert("ZZ").await, Err(Error::Config(_))));
}

#[tokio::test]
async fn a_conversion_granted_while_it_was_dropped_is_seen() {
    let engine = Engine::embedded();
    let (a, b) = (engine.client(), engine.client());
    let mut one = a.lock("c").shared().await.expect("free");
    let two = b.lock("c").shared().await.expect("compatible");
    {
        let mut up = pin!(one.convert("EX").into_future());
        assert!(poll_once(up.as_mut()).is_pending());
        two.release().await.expect("released");
    }
    assert_eq!(one.mode_name(), "EX");
    one.convert("PR").await.expect("down from what it is");
    assert_eq!(one.mode_name(), "PR");
}

#[tokio::test]
async fn a_conversion_that_let_go_of_its_mode_is_seen() {
    let engine = Engine::embedded();
    let (a, b) = (engine.client(), engine.client());
    let mut one = a.lock("c").shared().await.expect("free");
    let mut two = b.lock("c").shared().await.expect("compatible");
    let (up, late) = tokio::join!(one.convert("EX").into_future(), async {
        // It falls back to NL, so that `one` is granted: nothing of PR is left.
        two.convert("EX").flag(Flags::CONVDEADLK).wait(Duration::from_millis(20)).await
    });
    up.expect("granted");
    assert_eq!(late.expect_err("one holds it").refusal(), Some(Refusal::Timeout));
    assert_eq!((one.mode_name(), two.mode_name()), ("EX", "NL"));
    one.convert("PR").await.expect("down");
    two.convert("PR").await.expect("free again");
    {
        let mut up = pin!(one.convert("EX").into_future());
        assert!(poll_once(up.as_mut()).is_pending());
        let mut dropped = pin!(two.convert("EX").flag(Flags::CONVDEADLK).into_future());
        assert!(poll_once(dropped.as_mut()).is_pending());
    }
    assert_eq!((one.mode_name(), two.mode_name()), ("EX", "NL"), "also of a dropped one");
}

#[tokio::test]
async fn values() {
    let engine = Engine::embedded();
    let (a, b) = (engine.client(), engine.client());
    // A value block lives as long as some lock is on the resource.
    let _keeper = b.lock("v").mode("NL").await.expect("null");
    let mut writer = a.lock("v").value(true).await.expect("free");
    writer.set_value(b"one").await.expect("EX writes");
    assert!(writer.read_value().await.expect("readable").bytes.starts_with(b"one"));
    writer.release_with(b"two").await.expect("released");
    let reader = b.lock("v").shared().value(true).await.expect("free");
    let value = reader.value().expect("VALBLK was asked for");
    assert!(value.bytes.starts_with(b"two") && !value.invalid);
    let plain = a.lock("v").shared().await.expect("compatible");
    assert_eq!(plain.value(), None);
}

#[tokio::test]
async fn blocking_notices_are_a_stream() {
    let engine = Engine::embedded();
    let (a, b) = (engine.client(), engine.client());
    let held = a.lock("n").shared().await.expect("free");
    let ex = Claim::Mode(held.modes().exclusive());
    let mut lock = pin!(b.lock("n").into_future());
    assert!(poll_once(lock.as_mut()).is_pending());
    assert_eq!(held.blocking().next().await, Some(ex), "though it came before anybody asked");
    let mut blocking = held.blocking();
    assert!(poll_once(pin!(blocking.next())).is_pending());
    held.release().await.expect("released");
    lock.await.expect("granted");
}

#[tokio::test]
async fn groups_share_without_queueing() {
    let engine = Engine::embedded();
    let (a, b, c) = (engine.client(), engine.client(), engine.client());
    let (ga, gb) = (a.group("team").await.expect("made"), b.group("team").await.expect("joined"));
    let one = ga.lock("g").await.expect("free");
    let two = gb.lock("g").shared().await.expect("the group has it");
    assert_eq!(one.token(), two.token());
    assert!(c.lock("g").try_now().await.expect("asked").is_none(), "outsiders queue");
    one.release().await.expect("b still uses it");
    assert!(c.lock("g").try_now().await.expect("asked").is_none());
    drop(two);
    let third = c.lock("g").try_now().await.expect("asked").expect("the last user is gone");
    drop(third);
    let left = ga.lock("h").await.expect("free");
    gb.detach().await.expect("left");
    ga.detach().await.expect("the last member");
    assert!(c.lock("h").try_now().await.expect("asked").is_some());
    drop(left);
    engine.check().expect("sound");
}

#[tokio::test]
async fn many_locks_or_none() {
    let engine = Engine::embedded();
    let (a, b) = (engine.client(), engine.client());
    let held = a.lock("m2").await.expect("free");
    assert!(b.lock_many(["m1", "m2"]).try_now().await.expect("asked").is_none());
    assert!(a.lock("m1").try_now().await.expect("asked").is_some(), "nothing is kept of the attempt");
    drop(held);
    let guards = b.lock_many(["m3", "m1", "m2"]).wait(Duration::from_secs(1)).await.expect("all are free");
    let names: Vec<&[u8]> = guards.iter().map(|g| g.name()).collect();
    assert_eq!(names, [b"m3", b"m1", b"m2"]);
    assert!(a.lock("m1").try_now().await.expect("asked").is_none());
}

#[tokio::test]
async fn permits_are_counted() {
    let engine = Engine::embedded();
    let client = engine.client();
    let two = client.permits("pool", 2, 3).await.expect("free");
    assert_eq!(two.claim(), Claim::Permits { take: 2, of: 3 });
    assert!(client.permits("pool", 2, 3).try_now().await.expect("asked").is_none());
    let one = client.permits("pool", 1, 3).try_now().await.expect("asked").expect("one is left");
    let other = client.permits("pool", 1, 4).try_now().await.expect_err("another number of permits");
    assert_eq!(other.refusal(), Some(Refusal::Invalid));
    drop((one, two));
    assert_eq!(detail(&client, "pool").await, None);
}

#[tokio::test]
async fn a_watch_sees_changes_of_its_prefix() {
    let engine = Engine::embedded();
    let (a, b) = (engine.client(), engine.client());
    let mut watch = b.watch(SPACE, b"w/").await.expect("watching");
    let guard = a.lock("w/1").await.expect("free");
    let _other = a.lock("elsewhere").await.expect("free");
    guard.release().await.expect("released");
    let mut seen = Vec::new();
    for _ in 0..2 {
        if let Some(WatchEvent::Changed(change)) = watch.next().await {
            seen.push((change.name.to_vec(), change.event));
        }
    }
    assert_eq!(seen, [(b"w/1".to_vec(), ChangeEvent::Granted), (b"w/1".to_vec(), ChangeEvent::Released)]);
}

#[tokio::test]
async fn lockspaces_have_their_own_modes() {
    let engine = Engine::embedded();
    let client = engine.client();
    let spec =
        SpaceSpec { modes: lockstead::types::space::ModeChoice::BuiltIn("rw".into()), ..SpaceSpec::named("files") };
    let space = client.create_space(spec.clone()).await.expect("made");
    assert_eq!(client.create_space(spec).await.expect_err("again").refusal(), Some(Refusal::Exists));
    assert_eq!(client.space("files").await.expect("found").id(), space.id());
    assert_eq!(client.space("nowhere").await.expect_err("none").refusal(), Some(Refusal::NoLockspace));
    let guard = client.lock("f").space(&space).shared().await.expect("free");
    assert_eq!(guard.mode_name(), "R");
    assert!(matches!(client.lock("f").space(&space).mode("EX").await, Err(Error::Config(_))));
    let busy = client.drop_space("files", false).await.expect_err("a lock is there");
    assert_eq!(busy.refusal(), Some(Refusal::Busy));
    client.drop_space("files", true).await.expect("by force");
    assert!(matches!(guard.lost().await, Lost::Revoked(_)));
    assert!(guard.check().is_err());
    assert_eq!(guard.state(), Lease::Lost);
}

#[tokio::test]
async fn a_forced_release_reaches_the_holder() {
    let engine = Engine::embedded();
    let (a, operator) = (engine.client(), engine.client());
    let guard = a.lock("stuck").await.expect("free");
    let token = guard.token();
    operator.force_release(SPACE, "stuck", token, "the owner is on holiday").await.expect("done");
    assert!(matches!(guard.lost().await, Lost::Revoked(_)));
    assert!(matches!(guard.release().await, Err(Error::Lost(_))));
    assert!(operator.lock("stuck").try_now().await.expect("asked").is_some());
}

#[tokio::test]
async fn ending_a_session_loses_its_locks() {
    let engine = Engine::embedded();
    let (a, operator) = (engine.client(), engine.client());
    let guard = a.lock("s").await.expect("free");
    operator.end_session(a.session_id(), "a test").await.expect("done");
    a.lost().await;
    assert!(guard.check().is_err());
    assert!(matches!(a.lock("other").await, Err(Error::Lost(_))));
    assert!(operator.lock("s").try_now().await.expect("asked").is_some());
}

#[tokio::test]
async fn closing_releases_everything() {
    let engine = Engine::embedded();
    let (a, b) = (engine.client(), engine.client());
    let guard = a.lock("s").await.expect("free");
    let waits = b.lock("s").into_future();
    let (closed, granted) = tokio::join!(a.clone().close(), waits);
    closed.expect("closed");
    granted.expect("handed over");
    assert_eq!(guard.lost().await, Lost::Closed);
    drop((a, guard));
    assert_eq!(b.sessions().await.expect("a look").len(), 1);
    engine.check().expect("sound");
}

#[tokio::test]
async fn the_last_handle_ends_the_session() {
    let engine = Engine::embedded();
    let (a, b) = (engine.client(), engine.client());
    let guard = a.lock("s").await.expect("free");
    drop(a);
    assert!(b.lock("s").try_now().await.expect("asked").is_none(), "a guard keeps the session");
    drop(guard);
    assert!(b.lock("s").try_now().await.expect("asked").is_some());
    assert_eq!(b.sessions().await.expect("a look").len(), 1);
}

#[tokio::test]
async fn who_holds_it() {
    let engine = Engine::embedded();
    let client = engine.client_for("nightly report");
    let guard = client.lock("q").await.expect("free");
    let row = &detail(&client, "q").await.expect("held").granted[0];
    assert_eq!(row.token, guard.token());
    assert_eq!((row.holder.meta.pid, row.holder.meta.purpose.as_str()), (std::process::id(), "nightly report"));
    assert!(!row.holder.meta.host.is_empty() && !row.holder.meta.program.is_empty());
    assert_eq!(client.resources(SPACE, b"").await.expect("a look").len(), 1);
    assert_eq!(client.status().await.expect("a look").granted, 1);
    assert_eq!(client.spaces().await.expect("a look").len(), 1);
    assert!(client.waits().await.expect("a look").edges.is_empty());
    assert!(client.deadlocks().await.expect("a look").reports.is_empty());
    assert!(matches!(client.query(Query::Status).await, Ok(Report::Status(_))));
    client.sync().await.expect("in order");
    assert_eq!(client.purge(SPACE, None).await.expect("nothing to purge"), 0);
}

#[tokio::test]
async fn deadlocks_among_sessions_are_broken() {
    let engine = Engine::embedded();
    let (a, b) = (engine.client(), engine.client());
    let _a1 = a.lock("d1").owned_by_session().await.expect("free");
    let _b2 = b.lock("d2").owned_by_session().await.expect("free");
    let mut first = pin!(a.lock("d2").owned_by_session().into_future());
    assert!(poll_once(first.as_mut()).is_pending());
    let victim = b.lock("d1").owned_by_session().await.expect_err("closes the cycle");
    assert_eq!(victim.refusal(), Some(Refusal::Deadlock));
    assert_eq!(a.deadlocks().await.expect("a look").reports.len(), 1);
}

#[tokio::test]
async fn raw_sessions_see_every_answer_and_notice() {
    let engine = Engine::embedded();
    let (a, b) = (engine.client().raw(), engine.client().raw());
    let mut news = a.notices();
    let op = |wait| {
        Op::Lock(LockRequest {
            space: SPACE,
            name: b"r",
            claim: Claim::Mode(lockstead::Mode(5)),
            wait,
            flags: Flags::NONE,
            owner: OwnerRef::Session,
            tag: 0,
            priority: 0,
        })
    };
    let mut held = a.submit(op(Wait::Forever)).expect("asked");
    let Some(Reply::Granted(grant)) = held.next().await else { panic!("must be granted") };
    assert_eq!(held.next().await, None);
    let mut waits = b.submit(op(Wait::Forever)).expect("asked");
    assert!(matches!(waits.next().await, Some(Reply::Queued(_))));
    let lockstead::raw::News::Notice(Notice::Blocking { lock, .. }) = news.next().await.expect("a notice") else {
        panic!("must be a blocking notice")
    };
    assert_eq!(lock, grant.lock);
    a.kill();
    assert!(matches!(waits.next().await, Some(Reply::Granted(_))), "a killed local session is gone at once");
    assert_eq!(news.next().await, None);
}

#[test]
fn waiters_are_woken_across_threads() {
    let engine = Engine::embedded();
    let mut threads = Vec::new();
    let counter = std::sync::Arc::new(core::sync::atomic::AtomicU32::new(0));
    for _ in 0..4 {
        let (client, counter) = (engine.client(), std::sync::Arc::clone(&counter));
        threads.push(std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            runtime.block_on(async {
                for _ in 0..500 {
                    let guard = client.lock("hot").await.expect("granted in the end");
                    // Not atomic on purpose: only the lock keeps this right.
                    let seen = counter.load(core::sync::atomic::Ordering::Relaxed);
                    std::thread::yield_now();
                    counter.store(seen + 1, core::sync::atomic::Ordering::Relaxed);
                    drop(guard);
                }
            });
        }));
    }
    for thread in threads {
        thread.join().expect("no panic");
    }
    assert_eq!(counter.load(core::sync::atomic::Ordering::Relaxed), 2_000);
    engine.check().expect("sound");
}
