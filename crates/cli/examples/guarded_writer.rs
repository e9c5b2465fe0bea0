//! A holder that is told what to do, for trying what happens to one that is stopped: it takes the lock NAME with a lease
//! of one second and says `held TOKEN`; for each line it then reads it says `wrote TOKEN`, or `lost` if it may not.
//!
//! `guarded_writer NAME`, with the service in `LOCKSTEAD_ENDPOINTS`.

use core::time::Duration;
use std::io::{BufRead, Write};

use lockstead::{Client, Error};
use tokio::sync::mpsc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let name = std::env::args().nth(1).unwrap_or_else(|| "guarded".into());
    let client = Client::builder().ttl(Duration::from_secs(1)).purpose("guarded_writer").connect().await?;
    let guard = client.lock(&name).await?;
    say(&format!("held {}", guard.token()));
    let mut orders = orders();
    while orders.recv().await.is_some() {
        // The check goes by the clock, so it holds however long the process did not run; what follows it must be done
        // within the client's safety margin, or carry the token to a resource that checks it. This does both.
        match guard.check() {
            Ok(()) => say(&format!("wrote {}", guard.token())),
            Err(_) => {
                say("lost");
                return Ok(());
            }
        }
    }
    guard.release().await
}

/// Lines of standard input. They are read on a thread of their own, because a blocked runtime renews no lease.
fn orders() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Whoever listens has gone: there is nobody left to tell.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
