//! What the leader does besides replicating: it confirms renewals and asks the [`Steward`] what is to be done.
//!
//! A steward belongs to one term. What it proposes is bound to that term, so nothing it concluded from what it knew then gets into
//! the log of another.

use core::time::Duration;
use std::sync::Arc;

use lockstead_cluster::{Steward, StewardConfig};
use lockstead_types::{NodeId, Time, peer::Incarnation};
use openraft::ReadPolicy;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::{
    book::Book,
    clock::now,
    codec::encode_command,
    group::{LogCommand, Raft, TermId},
    shared::Core,
};

/// How often the steward is asked.
const STEWARD: Duration = Duration::from_millis(100);
/// How long a round with a quorum may take.
const ROUND: Duration = Duration::from_secs(1);
/// Renewals that wait for a round.
const WAITING: usize = 4_096;

/// Where renewals are handed in.
pub(crate) struct Leader {
    renewals: mpsc::Sender<Renewal>,
}

struct Renewal {
    node: NodeId,
    incarnation: Incarnation,
    received: Time,
    confirmed: oneshot::Sender<Option<u64>>,
}

/// The steward of the term this node leads in, if it does.
type InTerm = Mutex<Option<(TermId, Steward)>>;

impl Leader {
    pub(crate) fn new() -> (Leader, Office) {
        let (renewals, queue) = mpsc::channel(WAITING);
        (Leader { renewals }, Office { queue })
    }

    /// A renewal has come. Once it is confirmed: how far the log was agreed on by then; `None` where this node may not say so.
    pub(crate) async fn renew(&self, node: u16, incarnation: u32) -> Option<u64> {
        let (confirmed, wait) = oneshot::channel();
        let renewal = Renewal { node: NodeId(node), incarnation: Incarnation(incarnation), received: now(), confirmed };
        // Full: the sender comes again, and its authority lasts a few renewals.
        self.renewals.try_send(renewal).ok()?;
        wait.await.ok().flatten()
    }
}

/// The other end of [`Leader`].
pub(crate) struct Office {
    queue: mpsc::Receiver<Renewal>,
}

impl Office {
    /// Starts the leader's tasks; they do nothing while another leads.
    pub(crate) fn open(self, core: &Arc<Core>, config: StewardConfig) {
        let steward: Arc<InTerm> = Arc::new(Mutex::new(None));
        tokio::spawn(confirm_renewals(Arc::clone(core), Arc::clone(&steward), self.queue));
        tokio::spawn(keep_order(Arc::clone(core), steward, config));
        tokio::spawn(crate::voters::keep(Arc::clone(core)));
    }
}

/// One round with a quorum for all renewals that were there when it began.
async fn confirm_renewals(core: Arc<Core>, steward: Arc<InTerm>, mut queue: mpsc::Receiver<Renewal>) {
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, WAITING).await > 0 {
        let round = quorum_round(&core.raft).await;
        for renewal in batch.drain(..) {
            let good = |round: &Round| confirm(&core.book, &steward, round.term, &renewal);
            let confirmed = round.filter(good).map(|round| round.agreed);
            // Whoever asked may have given up.
            let _ = renewal.confirmed.send(confirmed);
        }
    }
}

fn confirm(book: &Book, steward: &InTerm, term: TermId, renewal: &Renewal) -> bool {
    match &mut *steward.lock() {
        Some((of, steward)) if *of == term => {
            book.with(|state| steward.on_renewal(renewal.received, state, renewal.node, renewal.incarnation))
        }
        _ => false,
    }
}

/// Asks the steward now and then. Only after a round with a quorum: a leader that reaches nobody hears from nobody, and must not
/// conclude that all the others are gone. The steward itself starts its clocks anew when it was not asked for a while.
async fn keep_order(core: Arc<Core>, steward: Arc<InTerm>, config: StewardConfig) {
    let mut tick = tokio::time::interval(STEWARD);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let Ok(leads) = core.raft.as_leader() else {
            *steward.lock() = None;
            continue;
        };
        let term = leads.to_committed_leader_id();
        {
            let mut steward = steward.lock();
            if steward.as_ref().is_none_or(|(of, _)| *of != term) {
                *steward = Some((term, Steward::new(config, now())));
            }
        }
        if quorum_round(&core.raft).await.is_none_or(|round| round.term != term) {
            continue;
        }
        let commands = match &mut *steward.lock() {
            Some((of, steward)) if *of == term => core.book.with(|state| steward.poll(now(), state)),
            _ => Vec::new(),
        };
        for command in commands {
            let write = core.raft.write(LogCommand(encode_command(&command))).with_leader(term);
            if write.await.is_err() {
                return;
            }
        }
    }
}

/// A round with a quorum.
#[derive(Copy, Clone)]
struct Round {
    /// The term in which it was had.
    term: TermId,
    /// Everything that was agreed on before it began stands no later than here in the log.
    agreed: u64,
}

/// A round that begins now, once everything that was agreed on before it is applied here.
async fn quorum_round(raft: &Raft) -> Option<Round> {
    let round = async {
        let linearizer = raft.get_read_linearizer(ReadPolicy::ReadIndex).await.ok()?;
        let read = *linearizer.read_log_id();
        linearizer.try_await_ready(raft, Some(ROUND)).await.ok()?.ok()?;
        Some(Round { term: *read.log_id().committed_leader_id(), agreed: read.log_id().index() })
    };
    tokio::time::timeout(ROUND, round).await.ok().flatten()
}
