//! What a session's callers wait for: answers by slot, news by lock. One desk a session, behind the session's mutex.
//!
//! A slot is found by its index, so an answer wakes exactly the future that waits for it. A future that is dropped leaves
//! its slot behind as abandoned, with what must be undone should a grant still come.

use core::{task::Poll, task::Waker};
use std::collections::VecDeque;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use lockstead_types::{
    GroupId, LockId, Refusal, RequestId,
    reply::{Change, Grant, Notice, Reply},
    request::Claim,
};

use crate::{Lost, watch::WatchQueue};
use std::sync::Arc;

/// Notices a reader of [`crate::raw::Notices`] may leave unread before changes are dropped.
const FEED_MAX: usize = 65_536;

/// Names a slot; the generation keeps a late answer from reaching its next user.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct SlotKey {
    index: u32,
    generation: u32,
}

impl SlotKey {
    pub(crate) fn to_u64(self) -> u64 {
        (u64::from(self.generation) << 32) | u64::from(self.index)
    }

    pub(crate) fn from_u64(n: u64) -> SlotKey {
        SlotKey { index: (n & 0xffff_ffff) as u32, generation: (n >> 32) as u32 }
    }
}

/// What an abandoned request leaves to undo.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Undo {
    /// New locks: release what is granted.
    Release,
    /// A conversion: note what the lock has become.
    Note(LockId),
    /// A group: leave it.
    Detach,
    /// A transaction: end it.
    RollBack,
    /// Nothing.
    Nothing,
}

/// What the session must do after an answer reached an abandoned slot.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Cleanup {
    Nothing,
    Release(Vec<LockId>),
    Detach(GroupId),
    RollBack,
}

enum Slot {
    Free { generation: u32 },
    Open { generation: u32, replies: Replies, waker: Option<Waker> },
    Abandoned { generation: u32, undo: Undo },
}

/// At most two answers come to a request: that it waits, and what became of it.
#[derive(Default)]
struct Replies {
    queued: Option<Reply>,
    last: Option<Reply>,
}

/// News of one lock.
#[derive(Default)]
pub(crate) struct LockNews {
    blocking: Option<Claim>,
    lost: Option<Lost>,
    /// The outcome of a conversion whose future was dropped.
    pub(crate) converted: Option<Converted>,
    wakers: Vec<Waker>,
}

/// News for a raw session's reader.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum News {
    /// A notice of the service.
    Notice(Notice),
    /// The lease changed state.
    Lease(lockstead_client_core::Lease),
    /// A lock was lost while the session lives.
    LockLost {
        /// The lock.
        lock: LockId,
        /// Why.
        why: Lost,
    },
}

/// What became of a conversion.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Converted {
    /// It was granted.
    Granted(Grant),
    /// It was not, and the lock is held as before.
    Kept,
    /// It was not, and the lock holds this instead of its old mode.
    Demoted(Claim),
}

impl Converted {
    pub(crate) fn of(reply: &Reply) -> Converted {
        match reply {
            Reply::Granted(grant) => Converted::Granted(grant.clone()),
            Reply::Demoted { held, .. } => Converted::Demoted(*held),
            _ => Converted::Kept,
        }
    }
}

#[derive(Default)]
struct Feed {
    news: VecDeque<News>,
    waker: Option<Waker>,
}

/// See the module.
pub(crate) struct Desk {
    slots: Vec<Slot>,
    free: Vec<u32>,
    locks: HashMap<LockId, LockNews, FixedState>,
    feed: Option<Feed>,
    watches: Vec<Arc<WatchQueue>>,
    lost: Option<Lost>,
    lost_wakers: Vec<Waker>,
    /// A request of the session was the victim of a deadlock, or its transaction was aborted, since the transaction began.
    pub(crate) must_retry: bool,
}

impl Desk {
    pub(crate) fn new() -> Desk {
        Desk {
            slots: Vec::new(),
            free: Vec::new(),
            locks: HashMap::with_hasher(FixedState::default()),
            feed: None,
            watches: Vec::new(),
            lost: None,
            lost_wakers: Vec::new(),
            must_retry: false,
        }
    }

    /// A slot for one request.
    pub(crate) fn open(&mut self) -> SlotKey {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::Free { generation: 0 });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        let generation = slot.generation().wrapping_add(1);
        *slot = Slot::Open { generation, replies: Replies::default(), waker: None };
        SlotKey { index, generation }
    }

    /// Takes a slot back whose request was not asked.
    pub(crate) fn cancel(&mut self, key: SlotKey) {
        self.close(key);
    }

    /// An answer has come. The waiting future is woken by whoever drops `wakers` into action after unlocking.
    pub(crate) fn deliver(&mut self, key: SlotKey, reply: Reply, wakers: &mut Vec<Waker>) -> Cleanup {
        let Some(slot) = self.slots.get_mut(key.index as usize) else { return Cleanup::Nothing };
        if slot.generation() != key.generation {
            return Cleanup::Nothing;
        }
        match slot {
            Slot::Free { .. } => Cleanup::Nothing,
            Slot::Open { replies, waker, .. } => {
                match reply {
                    Reply::Queued(_) => replies.queued = Some(reply),
                    _ => replies.last = Some(reply),
                }
                wakers.extend(waker.take());
                Cleanup::Nothing
            }
            Slot::Abandoned { undo, .. } => {
                let undo = *undo;
                if matches!(reply, Reply::Queued(_)) {
                    return Cleanup::Nothing;
                }
                self.close(key);
                self.undo(undo, reply)
            }
        }
    }

    /// The next answer in the slot; the slot is closed with the last one.
    pub(crate) fn poll(&mut self, key: SlotKey, waker: &Waker) -> Poll<Option<Reply>> {
        let Some(slot) = self.slots.get_mut(key.index as usize) else { return Poll::Ready(None) };
        let Slot::Open { generation, replies, waker: parked } = slot else { return Poll::Ready(None) };
        if *generation != key.generation {
            return Poll::Ready(None);
        }
        if let Some(reply) = replies.queued.take() {
            return Poll::Ready(Some(reply));
        }
        if let Some(reply) = replies.last.take() {
            self.close(key);
            return Poll::Ready(Some(reply));
        }
        match parked {
            Some(old) if old.will_wake(waker) => {}
            _ => *parked = Some(waker.clone()),
        }
        Poll::Pending
    }

    /// The future that waited is gone. `None` where the last answer is still to come (then it must be cancelled).
    pub(crate) fn abandon(&mut self, key: SlotKey, undo: Undo) -> Option<Cleanup> {
        let slot = self.slots.get_mut(key.index as usize)?;
        let Slot::Open { generation, replies, .. } = slot else { return Some(Cleanup::Nothing) };
        if *generation != key.generation {
            return Some(Cleanup::Nothing);
        }
        if let Some(reply) = replies.last.take() {
            self.close(key);
            return Some(self.undo(undo, reply));
        }
        *slot = Slot::Abandoned { generation: key.generation, undo };
        None
    }

    fn undo(&mut self, undo: Undo, reply: Reply) -> Cleanup {
        match (undo, reply) {
            (Undo::Release, Reply::Granted(grant)) => Cleanup::Release(vec![grant.lock]),
            (Undo::Release, Reply::GrantedMany(grants)) => {
                Cleanup::Release(grants.into_iter().map(|g| g.lock).collect())
            }
            (Undo::Note(lock), reply) => {
                self.locks.entry(lock).or_default().converted = Some(Converted::of(&reply));
                Cleanup::Nothing
            }
            (Undo::Detach, Reply::Group(group)) => Cleanup::Detach(group),
            (Undo::RollBack, Reply::Begun(_)) => Cleanup::RollBack,
            _ => Cleanup::Nothing,
        }
    }

    fn close(&mut self, key: SlotKey) {
        self.slots[key.index as usize] = Slot::Free { generation: key.generation };
        self.free.push(key.index);
    }

    /// News of the service.
    pub(crate) fn notice(&mut self, notice: Notice, wakers: &mut Vec<Waker>) {
        match &notice {
            Notice::Blocking { lock, claim } => {
                let news = self.locks.entry(*lock).or_default();
                news.blocking = Some(*claim);
                wakers.append(&mut news.wakers);
            }
            Notice::Revoked { lock, why } => {
                let news = self.locks.entry(*lock).or_default();
                news.lost.get_or_insert(Lost::Revoked(*why));
                wakers.append(&mut news.wakers);
            }
            Notice::Aborted => self.must_retry = true,
            Notice::Changed(change) => self.changed(change, wakers),
            Notice::Resync => {
                for watch in &self.watches {
                    watch.resync(wakers);
                }
            }
        }
        self.feed(News::Notice(notice), wakers);
    }

    fn changed(&mut self, change: &Change, wakers: &mut Vec<Waker>) {
        self.watches.retain(|w| Arc::strong_count(w) > 1);
        for watch in &self.watches {
            watch.offer(change, wakers);
        }
    }

    /// A lock is lost while its session lives. Does nothing where the service has said so already.
    pub(crate) fn lose_lock(&mut self, lock: LockId, why: Lost, wakers: &mut Vec<Waker>) {
        let news = self.locks.entry(lock).or_default();
        if news.lost.is_none() {
            news.lost = Some(why);
            wakers.append(&mut news.wakers);
            self.feed(News::LockLost { lock, why }, wakers);
        }
    }

    /// The session is over: everybody is woken.
    pub(crate) fn lose_all(&mut self, why: Lost, wakers: &mut Vec<Waker>) {
        self.lost.get_or_insert(why);
        wakers.append(&mut self.lost_wakers);
        for slot in &mut self.slots {
            if let Slot::Open { replies, waker, .. } = slot {
                replies.last.get_or_insert(Reply::Refused(Refusal::Lost));
                wakers.extend(waker.take());
            }
        }
        for news in self.locks.values_mut() {
            wakers.append(&mut news.wakers);
        }
        for watch in &self.watches {
            watch.end(wakers);
        }
        if let Some(feed) = &mut self.feed {
            wakers.extend(feed.waker.take());
        }
    }

    /// Why the session is over, where it is.
    pub(crate) fn lost(&self) -> Option<Lost> {
        self.lost
    }

    /// Why a lock is lost, where it is.
    pub(crate) fn lock_lost(&self, lock: LockId) -> Option<Lost> {
        self.lost.or_else(|| self.locks.get(&lock).and_then(|n| n.lost))
    }

    pub(crate) fn news_of(&mut self, lock: LockId) -> Option<&mut LockNews> {
        self.locks.get_mut(&lock)
    }

    /// The guard is gone, and its news with it.
    pub(crate) fn forget(&mut self, lock: LockId) {
        if !self.locks.is_empty() {
            self.locks.remove(&lock);
        }
    }

    pub(crate) fn poll_lost(&mut self, waker: &Waker) -> Poll<Lost> {
        match self.lost {
            Some(why) => Poll::Ready(why),
            None => {
                park(&mut self.lost_wakers, waker);
                Poll::Pending
            }
        }
    }

    pub(crate) fn poll_lock_lost(&mut self, lock: LockId, waker: &Waker) -> Poll<Lost> {
        match self.lock_lost(lock) {
            Some(why) => Poll::Ready(why),
            None => {
                park(&mut self.locks.entry(lock).or_default().wakers, waker);
                Poll::Pending
            }
        }
    }

    pub(crate) fn poll_blocking(&mut self, lock: LockId, waker: &Waker) -> Poll<Option<Claim>> {
        if self.lock_lost(lock).is_some() {
            return Poll::Ready(None);
        }
        let news = self.locks.entry(lock).or_default();
        match news.blocking.take() {
            Some(claim) => Poll::Ready(Some(claim)),
            None => {
                park(&mut news.wakers, waker);
                Poll::Pending
            }
        }
    }

    /// From here on news is kept for [`Desk::poll_feed`].
    pub(crate) fn open_feed(&mut self) {
        self.feed.get_or_insert_default();
    }

    pub(crate) fn close_feed(&mut self) {
        self.feed = None;
    }

    pub(crate) fn feed(&mut self, news: News, wakers: &mut Vec<Waker>) {
        let Some(feed) = &mut self.feed else { return };
        let change = matches!(news, News::Notice(Notice::Changed(_) | Notice::Resync));
        if change && feed.news.len() >= FEED_MAX {
            // Only changes can come without bound; what is dropped is said.
            if feed.news.back() != Some(&News::Notice(Notice::Resync)) {
                feed.news.push_back(News::Notice(Notice::Resync));
            }
        } else {
            feed.news.push_back(news);
        }
        wakers.extend(feed.waker.take());
    }

    pub(crate) fn poll_feed(&mut self, waker: &Waker) -> Poll<Option<News>> {
        let over = self.lost.is_some();
        let Some(feed) = &mut self.feed else { return Poll::Ready(None) };
        match feed.news.pop_front() {
            Some(news) => Poll::Ready(Some(news)),
            None if over => Poll::Ready(None),
            None => {
                feed.waker = Some(waker.clone());
                Poll::Pending
            }
        }
    }

    pub(crate) fn add_watch(&mut self, watch: Arc<WatchQueue>) {
        self.watches.push(watch);
    }

    /// Drops a watch; whether it was the last.
    pub(crate) fn drop_watch(&mut self, watch: &Arc<WatchQueue>) -> bool {
        self.watches.retain(|w| !Arc::ptr_eq(w, watch));
        self.watches.is_empty()
    }
}

impl Slot {
    fn generation(&self) -> u32 {
        match self {
            Slot::Free { generation } | Slot::Open { generation, .. } | Slot::Abandoned { generation, .. } => {
                *generation
            }
        }
    }
}

fn park(wakers: &mut Vec<Waker>, waker: &Waker) {
    if !wakers.iter().any(|w| w.will_wake(waker)) {
        wakers.push(waker.clone());
    }
}

/// The request that a slot waits for, so that it can be cancelled.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Ticket {
    pub(crate) slot: SlotKey,
    pub(crate) request: RequestId,
}
