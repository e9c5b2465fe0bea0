//! Watching a lockspace: every change on resources whose names start with a prefix.

use core::{task::Poll, task::Waker};
use std::{collections::VecDeque, sync::Arc};

use lockstead_types::{SpaceId, reply::Change, request::Op};
use parking_lot::Mutex;

use crate::{Error, link::Link};

/// Changes a reader may leave unread; what comes then is dropped, and said with [`WatchEvent::Resync`].
const UNREAD_MAX: usize = 16_384;

/// What a watch sees.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WatchEvent {
    /// A lock of a watched resource changed.
    Changed(Change),
    /// Changes were lost (a slow reader, a broken connection): look again.
    Resync,
}

/// A watch. It ends when dropped, or with the session.
pub struct Watch {
    link: Link,
    queue: Arc<WatchQueue>,
}

impl Watch {
    pub(crate) async fn open(link: &Link, space: SpaceId, prefix: &[u8]) -> Result<Watch, Error> {
        let queue = Arc::new(WatchQueue { space, prefix: prefix.into(), unread: Mutex::default() });
        link.with_desk(|desk| desk.add_watch(Arc::clone(&queue)));
        // From here on dropping it (a cancelled future, too) takes the queue away again.
        let watch = Watch { link: link.clone(), queue };
        link.ask(Op::Watch { space, prefix }).await?;
        Ok(watch)
    }

    /// The next event, `None` once the session is over. Cancellation safe: dropping the future loses no event.
    pub async fn next(&mut self) -> Option<WatchEvent> {
        core::future::poll_fn(|cx| self.queue.poll(cx.waker())).await
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let last = self.link.with_desk(|desk| desk.drop_watch(&self.queue));
        if last {
            self.link.post(&Op::Unwatch);
        }
    }
}

/// Unread events of one watch.
pub(crate) struct WatchQueue {
    space: SpaceId,
    prefix: Box<[u8]>,
    unread: Mutex<Unread>,
}

#[derive(Default)]
struct Unread {
    events: VecDeque<WatchEvent>,
    waker: Option<Waker>,
    over: bool,
}

impl WatchQueue {
    pub(crate) fn offer(&self, change: &Change, wakers: &mut Vec<Waker>) {
        if change.space == self.space && change.name.starts_with(&self.prefix) {
            self.unread.lock().push(WatchEvent::Changed(change.clone()), wakers);
        }
    }

    pub(crate) fn resync(&self, wakers: &mut Vec<Waker>) {
        self.unread.lock().push(WatchEvent::Resync, wakers);
    }

    pub(crate) fn end(&self, wakers: &mut Vec<Waker>) {
        let mut unread = self.unread.lock();
        unread.over = true;
        wakers.extend(unread.waker.take());
    }

    fn poll(&self, waker: &Waker) -> Poll<Option<WatchEvent>> {
        let mut unread = self.unread.lock();
        match unread.events.pop_front() {
            Some(event) => Poll::Ready(Some(event)),
            None if unread.over => Poll::Ready(None),
            None => {
                unread.waker = Some(waker.clone());
                Poll::Pending
            }
        }
    }
}

impl Unread {
    fn push(&mut self, event: WatchEvent, wakers: &mut Vec<Waker>) {
        if self.events.len() < UNREAD_MAX {
            self.events.push_back(event);
        } else if self.events.back() != Some(&WatchEvent::Resync) {
            self.events.push_back(WatchEvent::Resync);
        }
        wakers.extend(self.waker.take());
    }
}
