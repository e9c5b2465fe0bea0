//! Transactions as programs use them, over the embedded engine.

use core::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;

use lockstead::{
    Claim, Client, Engine, Error, Refusal, SpaceSpec,
    types::{
        hierarchy::{Escalate, Escalation, Hierarchy},
        space::{DeadlockPolicy, ModeChoice},
        transaction::Discipline,
    },
};

async fn is_free(client: &Client, name: &str) -> bool {
    client.lock(name).try_now().await.expect("asked").is_some()
}

#[tokio::test]
async fn locks_stay_until_the_commit() {
    let engine = Engine::embedded();
    let (a, b) = (engine.client(), engine.client());
    let t = a.begin().await.expect("none is open");
    assert!(matches!(a.begin().await, Err(Error::Refused(Refusal::Busy))));
    let guard = t.lock("x").await.expect("free");
    // A strict transaction gives nothing back early, and a guard that is dropped is none of its own.
    assert!(matches!(guard.release().await, Err(Error::Refused(Refusal::Phase))));
    drop(t.lock("y").shared().await.expect("free"));
    t.lock_many(["z", "w"]).await.expect("free");
    for name in ["x", "y", "z", "w"] {
        assert!(!is_free(&b, name).await, "{name}");
    }
    t.commit().await.expect("nothing waits");
    for name in ["x", "y", "z", "w"] {
        assert!(is_free(&b, name).await, "{name}");
    }
    drop(a.begin().await.expect("the one before is over"));
    assert!(a.begin().await.is_ok(), "dropping it rolls it back");
    engine.check().expect("sound");
}

#[tokio::test]
async fn savepoints_and_statements_give_back_a_part() {
    let engine = Engine::embedded();
    let (a, b) = (engine.client(), engine.client());
    let t = a.begin().await.expect("none is open");
    t.lock("x").await.expect("free");
    let point = t.savepoint().await.expect("it goes on");
    t.lock("y").await.expect("free");
    t.rollback_to(point).await.expect("one of its own");
    assert!(is_free(&b, "y").await && !is_free(&b, "x").await);
    t.lock_for_statement("s").await.expect("free");
    t.end_statement().await.expect("it goes on");
    assert!(is_free(&b, "s").await);
    t.rollback().await.expect("it ends");
    assert!(is_free(&b, "x").await);
}

#[tokio::test]
async fn what_a_discipline_forbids_is_refused() {
    let engine = Engine::embedded();
    let a = engine.client();
    let spec = SpaceSpec { discipline: Discipline::TwoPhase, ..SpaceSpec::named("two") };
    let two = a.create_space(spec).await.expect("made");
    let t = a.begin().await.expect("none is open");
    let first = t.lock("x").space(&two).await.expect("free");
    first.release().await.expect("any time");
    let refused = t.lock("y").space(&two).await.expect_err("the second phase has begun");
    assert_eq!(refused.refusal(), Some(Refusal::Phase));
    t.commit().await.expect("it ends");
}

/// Many clients take few names in all orders; each transaction commits in the end. How many attempts that took in all.
async fn hostile(policy: DeadlockPolicy, clients: u32, rounds: u32) -> u32 {
    let engine = Engine::embedded();
    let spec = SpaceSpec { deadlock: policy, ..SpaceSpec::named("accounts") };
    engine.client().create_space(spec).await.expect("made");
    let attempts = Arc::new(AtomicU32::new(0));
    let counter = Arc::new(AtomicU32::new(0));
    let mut tasks = Vec::new();
    for n in 0..clients {
        let (client, attempts, counter) = (engine.client(), attempts.clone(), counter.clone());
        tasks.push(tokio::spawn(async move {
            let space = client.space("accounts").await.expect("there");
            for round in 0..rounds {
                let done: Result<(), Error> = client
                    .transaction(|t| {
                        attempts.fetch_add(1, Ordering::Relaxed);
                        let space = space.clone();
                        async move {
                            for step in 0..4 {
                                let name = format!("a{}", (n * 7 + round * 3 + step * (1 + n % 4)) % 5);
                                match t.lock(&name).space(&space).await {
                                    Ok(_) | Err(Error::Refused(Refusal::Busy)) => {}
                                    Err(why) => return Err(why),
                                }
                                tokio::task::yield_now().await;
                            }
                            Ok(())
                        }
                    })
                    .await;
                done.expect("it commits in the end");
                counter.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    for task in tasks {
        task.await.expect("no panic");
    }
    engine.check().expect("sound");
    assert_eq!(counter.load(Ordering::Relaxed), clients * rounds);
    let found = engine.client().deadlocks().await.expect("a look");
    assert!(policy == DeadlockPolicy::Detect || found.reports.is_empty(), "{policy:?}: no cycle comes to be");
    attempts.load(Ordering::Relaxed)
}

#[tokio::test]
async fn under_each_policy_every_transaction_commits_in_the_end() {
    for policy in [DeadlockPolicy::Detect, DeadlockPolicy::WaitDie, DeadlockPolicy::WoundWait] {
        let attempts = hostile(policy, 8, 10).await;
        assert!(attempts >= 80, "{policy:?}: {attempts}");
        println!("{policy:?}: 80 transactions took {attempts} attempts");
    }
}

#[tokio::test]
async fn a_path_is_locked_with_what_is_above_it() {
    let engine = Engine::embedded();
    let (a, b) = (engine.client(), engine.client());
    let hierarchy = Hierarchy {
        levels: Hierarchy::parse_levels("database/table/row"),
        escalation: Escalation::To(Escalate { at: 3, retry: 1, ..Escalate::AUTO }),
    };
    let spec = SpaceSpec {
        modes: ModeChoice::BuiltIn("granular".into()),
        hierarchy: Some(Box::new(hierarchy)),
        ..SpaceSpec::named("rows")
    };
    let rows = a.create_space(spec).await.expect("made");
    let t = a.begin().await.expect("none is open");
    let mut guards = Vec::new();
    for row in 1..=3 {
        guards.push(t.lock_path(format!("shop/orders/{row}")).space(&rows).await.expect("free"));
    }
    let other = b.begin().await.expect("none is open");
    let refused = other.lock_path("shop").space(&rows).shared().try_now().await.expect("asked");
    assert!(refused.is_none(), "the intents are in its way");
    let free = other.lock_path("shop/orders/7").space(&rows).shared().try_now().await.expect("asked");
    assert!(free.is_some());
    // [ESC-1] Beside that it cannot have the table; without it, the fifth row is the table.
    guards.push(t.lock_path("shop/orders/4").space(&rows).await.expect("free"));
    other.rollback().await.expect("it ends");
    let last = t.lock_path("shop/orders/2000").space(&rows).await.expect("free");
    let table = a.show(rows.id(), "shop/orders").await.expect("asked").expect("locked");
    assert_eq!(table.granted[0].held, Some(Claim::Mode(rows.modes().exclusive())));
    let row = a.show(rows.id(), "shop/orders/1").await.expect("asked");
    assert!(row.is_none(), "it has become part of the table's");
    drop((guards, last));
    t.commit().await.expect("nothing waits");
    engine.check().expect("sound");
}
