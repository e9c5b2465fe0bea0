//! Transactions: locks that are released together.

use core::{
    fmt,
    future::Future,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use std::sync::Arc;

use lockstead_types::{
    Age, Refusal,
    reply::Reply,
    request::{Op, OwnerRef},
    transaction::Savepoint,
};

use crate::{
    Client, Error, LockBuilder, ManyBuilder,
    client::{done, unexpected},
    link::Link,
    lock::Ask,
};

/// The first pause before a transaction is tried again; each one after may be twice as long.
const PAUSE_FIRST: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(250);

/// A transaction of a session. Its locks stay until it ends, also when their guards are dropped. A session runs one at a time:
/// whoever wants several at once connects as often.
///
/// What the lockspace's discipline says of early release is enforced by the service (`strict` where nothing was chosen). Dropping it rolls
/// it back at best effort. Where the session is lost the transaction is, with all it held.
#[must_use = "dropping it rolls it back"]
pub struct Transaction {
    link: Link,
    age: Age,
    /// Its end was not asked for.
    open: AtomicBool,
}

impl Transaction {
    pub(crate) async fn begin(link: &Link, age: Option<Age>) -> Result<Transaction, Error> {
        match link.ask(Op::Begin { age }).await? {
            Reply::Begun(age) => {
                // What the one before was told is not about this one.
                link.with_desk(|desk| desk.must_retry = false);
                Ok(Transaction { link: link.clone(), age, open: AtomicBool::new(true) })
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Its age. Begun again with it ([`Client::begin_again`]) a transaction that was aborted is older than all that began after it first did.
    #[must_use]
    pub fn age(&self) -> Age {
        self.age
    }

    /// A lock of the transaction, by default exclusive, in the lockspace `default`.
    pub fn lock<N: AsRef<[u8]>>(&self, name: N) -> LockBuilder<'_, N> {
        LockBuilder::new(&self.link, name, Ask { owner: OwnerRef::Transaction, ..Ask::default() })
    }

    /// A resource of a lockspace that is a hierarchy, and the intents of the mode on all that is above it, in one request: of
    /// `db/table/row` also `db/table` and `db`. Where what is above is held in a mode that covers it, the guard is that of the lock above.
    pub fn lock_path<N: AsRef<[u8]>>(&self, name: N) -> LockBuilder<'_, N> {
        LockBuilder::new(&self.link, name, Ask { owner: OwnerRef::Transaction, path: true, ..Ask::default() })
    }

    /// A lock that [`Transaction::end_statement`] releases, at the latest the end of the transaction.
    pub fn lock_for_statement<N: AsRef<[u8]>>(&self, name: N) -> LockBuilder<'_, N> {
        LockBuilder::new(&self.link, name, Ask { owner: OwnerRef::Statement, ..Ask::default() })
    }

    /// Several names at once, all or none.
    pub fn lock_many<N: AsRef<[u8]>>(&self, names: impl IntoIterator<Item = N>) -> ManyBuilder<'_> {
        let names = names.into_iter().map(|n| n.as_ref().into()).collect();
        ManyBuilder::new(&self.link, names).owned_by(OwnerRef::Transaction)
    }

    /// Whether it can only be rolled back: it was chosen as the victim of a deadlock, or had to give way to an older one. The locks it has are
    /// still its own.
    #[must_use]
    pub fn must_retry(&self) -> bool {
        self.link.with_desk(|desk| desk.must_retry)
    }

    /// A point to which it can be rolled back.
    ///
    /// # Errors
    /// `aborted`, [`Error::Lost`].
    pub async fn savepoint(&self) -> Result<Savepoint, Error> {
        match self.link.ask(Op::Savepoint).await? {
            Reply::Savepoint(point) => Ok(point),
            other => Err(unexpected(&other)),
        }
    }

    /// Releases the locks that came after a savepoint. Conversions of those before it stay.
    ///
    /// # Errors
    /// `invalid` for a point that is not one of this transaction, `aborted`, [`Error::Lost`].
    pub async fn rollback_to(&self, point: Savepoint) -> Result<(), Error> {
        done(self.link.ask(Op::Rollback { to: Some(point) }).await?)
    }

    /// Releases the locks of the statement.
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub async fn end_statement(&self) -> Result<(), Error> {
        done(self.link.ask(Op::EndStatement).await?)
    }

    /// Ends it, and releases all it has. What it guards should be durable before.
    ///
    /// # Errors
    /// `aborted` where it must be rolled back, `busy` while a request of it waits; it is rolled back then. [`Error::Lost`].
    pub async fn commit(self) -> Result<(), Error> {
        self.try_commit().await
    }

    async fn try_commit(&self) -> Result<(), Error> {
        done(self.link.ask(Op::Commit).await?)?;
        self.open.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Ends it, whatever it waits for, and releases all it has.
    ///
    /// # Errors
    /// [`Error::Lost`].
    pub async fn rollback(self) -> Result<(), Error> {
        self.try_rollback().await
    }

    async fn try_rollback(&self) -> Result<(), Error> {
        self.open.store(false, Ordering::Relaxed);
        done(self.link.ask(Op::Rollback { to: None }).await?)
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if self.open.load(Ordering::Relaxed) {
            self.link.post(&Op::Rollback { to: None });
        }
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transaction(age {}.{})", self.age.scn, self.age.tie)
    }
}

impl Client {
    /// Begins a transaction of this session.
    ///
    /// # Errors
    /// `busy` while the session is in one, [`Error::Lost`].
    pub async fn begin(&self) -> Result<Transaction, Error> {
        Transaction::begin(self.link(), None).await
    }

    /// Begins one with the age of one that was rolled back.
    ///
    /// # Errors
    /// As [`Client::begin`].
    pub async fn begin_again(&self, age: Age) -> Result<Transaction, Error> {
        Transaction::begin(self.link(), Some(age)).await
    }

    /// Runs `work` in a transaction and commits it. Where the transaction is the victim of a deadlock, or gives way to an older one, it is
    /// rolled back, and after a pause (by chance, at most twice as long each time, 250 ms in the end) tried again with its first age, so
    /// that it cannot starve where ages decide. `work` must undo what it did outside when it fails, and keep nothing of the transaction. Needs a tokio runtime with time
    /// enabled.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), lockstead::Error> {
    /// let client = lockstead::Engine::embedded().client();
    /// let moved: u32 = client
    ///     .transaction(|t| async move {
    ///         t.lock("accounts/1").await?;
    ///         t.lock("accounts/2").await?;
    ///         Ok::<_, lockstead::Error>(100)
    ///     })
    ///     .await?;
    /// assert_eq!(moved, 100);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// What `work` fails with while the transaction need not be tried again; it is rolled back then. Errors of `begin` and `commit`.
    pub async fn transaction<T, E: From<Error>, F: Future<Output = Result<T, E>>>(
        &self,
        mut work: impl FnMut(Arc<Transaction>) -> F,
    ) -> Result<T, E> {
        let (mut age, mut pause) = (None, PAUSE_FIRST);
        loop {
            let transaction = Arc::new(Transaction::begin(self.link(), age).await?);
            age = Some(transaction.age());
            let outcome = work(Arc::clone(&transaction)).await;
            let again = transaction.must_retry();
            match outcome {
                Ok(done) if !again => match transaction.try_commit().await {
                    Ok(()) => return Ok(done),
                    // It had to give way just then.
                    Err(Error::Refused(Refusal::Aborted)) => transaction.try_rollback().await?,
                    Err(why) => return Err(why.into()),
                },
                Err(why) if !again => {
                    // The work's own error says more than one of the end.
                    let _lost_anyway = transaction.try_rollback().await;
                    return Err(why);
                }
                _ => transaction.try_rollback().await?,
            }
            tokio::time::sleep(jittered(pause)?).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

/// Half of it by chance.
fn jittered(pause: Duration) -> Result<Duration, Error> {
    let mut byte = [0u8; 1];
    rustix::rand::getrandom(&mut byte, rustix::rand::GetRandomFlags::empty())
        .map_err(|e| Error::Config(format!("no random source: {e}")))?;
    Ok(pause / 2 + pause * u32::from(byte[0]) / 512)
}
