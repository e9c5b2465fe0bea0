//! Many futures in one task: the clients that share a connection.
//!
//! A task of its own for each client would cost a trip through the runtime's queue for each answer. Here the answers of
//! one batch wake the task once, and only the clients that were answered are polled.

use core::{
    pin::Pin,
    task::{Context, Poll, Waker},
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    task::Wake,
};

/// Futures that run together until each has ended; yields their outputs in their order.
pub(crate) struct Crew<F: Future> {
    members: Vec<Member<F>>,
    ready: Arc<Ready>,
    polled: Vec<usize>,
    running: usize,
}

struct Member<F: Future> {
    waker: Waker,
    state: State<F>,
}

enum State<F: Future> {
    Running(Pin<Box<F>>),
    Done(F::Output),
    Taken,
}

#[derive(Default)]
struct Ready {
    list: Mutex<List>,
}

#[derive(Default)]
struct List {
    members: Vec<usize>,
    task: Option<Waker>,
}

struct MemberWaker {
    index: usize,
    ready: Arc<Ready>,
}

impl<F: Future> Crew<F> {
    /// A crew of these.
    pub(crate) fn new(futures: impl IntoIterator<Item = F>) -> Crew<F> {
        let ready = Arc::new(Ready::default());
        let member = |(index, future)| Member {
            waker: Waker::from(Arc::new(MemberWaker { index, ready: Arc::clone(&ready) })),
            state: State::Running(Box::pin(future)),
        };
        let members: Vec<Member<F>> = futures.into_iter().enumerate().map(member).collect();
        let running = members.len();
        ready.lock().members = (0..running).collect();
        Crew { members, ready, polled: Vec::new(), running }
    }
}

impl<F: Future> Future for Crew<F>
where
    F::Output: Unpin,
{
    type Output = Vec<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Vec<F::Output>> {
        let crew = &mut *self;
        {
            let mut list = crew.ready.lock();
            core::mem::swap(&mut list.members, &mut crew.polled);
            // Set before any member is polled: a wake-up from here on is not lost.
            if !list.task.as_ref().is_some_and(|task| task.will_wake(context.waker())) {
                list.task = Some(context.waker().clone());
            }
        }
        for index in crew.polled.drain(..) {
            let Some(member) = crew.members.get_mut(index) else { continue };
            let State::Running(future) = &mut member.state else { continue };
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&member.waker)) {
                member.state = State::Done(output);
                crew.running -= 1;
            }
        }
        if crew.running > 0 {
            return Poll::Pending;
        }
        let outputs =
            crew.members.iter_mut().filter_map(|member| match core::mem::replace(&mut member.state, State::Taken) {
                State::Done(output) => Some(output),
                State::Running(_) | State::Taken => None,
            });
        Poll::Ready(outputs.collect())
    }
}

impl<F: Future> Unpin for Crew<F> {}

impl Ready {
    fn lock(&self) -> std::sync::MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for MemberWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let task = {
            let mut list = self.ready.lock();
            list.members.push(self.index);
            // The first of a batch wakes the task; the others find it awake.
            if list.members.len() == 1 { list.task.clone() } else { None }
        };
        if let Some(task) = task {
            task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Crew;

    #[test]
    fn every_member_runs_to_its_end() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let member = |n: usize| async move {
            for _ in 0..n {
                tokio::task::yield_now().await;
            }
            n
        };
        let outputs = runtime.block_on(Crew::new((0..100).map(member)));
        assert_eq!(outputs, (0..100).collect::<Vec<_>>());
    }
}
