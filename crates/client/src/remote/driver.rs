//! The task of a session: connects, reads, writes what others left, keeps time.

use core::{pin::Pin, pin::pin, time::Duration};
use std::{io, sync::Arc};

use lockstead_client_core::Input;
use lockstead_types::{Time, message::ServerMessage};
use lockstead_wire::{DecodeLimits, FIRST_FRAME_BYTES, server_messages, split_frame};
use tokio::time::{Instant, Sleep};

use super::{Inner, Shared, rota::trouble_of, socket::Socket, wake_all};
use crate::clock;

/// Room for reading at least.
const READ_BYTES: usize = 64 * 1024;

/// What to do next.
enum Step {
    Connect,
    Serve { socket: Arc<Socket>, unwritten: bool },
    Pause,
    End,
}

/// Runs until the session is over.
pub(super) async fn drive(shared: Arc<Shared>) {
    let mut timer = Timer { sleep: pin!(tokio::time::sleep(Duration::ZERO)), armed: Time::ZERO };
    let mut input = Unread::default();
    loop {
        match next_step(&shared) {
            Step::End => return,
            Step::Connect => {
                input.filled = 0;
                connect(&shared, &mut timer).await;
            }
            Step::Pause => {
                timer.arm(shared.inner.lock().core.poll_deadline());
                tokio::select! {
                    () = &mut timer.sleep => tick(&shared, &mut timer),
                    () = shared.work.notified() => {}
                }
            }
            Step::Serve { socket, unwritten } => {
                timer.arm(shared.inner.lock().core.poll_deadline());
                tokio::select! {
                    biased;
                    ready = socket.readable() => {
                        let more = ready.and_then(|()| read(&shared, &socket, &mut input));
                        match more {
                            Ok(busy) => {
                                if busy {
                                    // Those who were answered ask again in this turn; one write takes it all.
                                    tokio::task::yield_now().await;
                                }
                                shared.inner.lock().flush();
                            }
                            Err(e) => broken(&shared, &socket, e),
                        }
                    }
                    ready = socket.writable(), if unwritten => {
                        if ready.is_ok() {
                            shared.inner.lock().flush();
                        }
                    }
                    () = shared.work.notified() => {
                        tokio::task::yield_now().await;
                        shared.inner.lock().flush();
                    }
                    () = &mut timer.sleep => tick(&shared, &mut timer),
                }
            }
        }
    }
}

fn next_step(shared: &Shared) -> Step {
    let mut inner = shared.inner.lock();
    inner.driver_awake = false;
    if let Some(socket) = &inner.socket {
        if inner.desk.lost().is_some() && inner.core.ending().is_none() {
            return Step::End;
        }
        return Step::Serve { socket: Arc::clone(socket), unwritten: !inner.out.is_empty() };
    }
    if inner.desk.lost().is_some() {
        return Step::End;
    }
    if core::mem::take(&mut inner.connect_wanted) { Step::Connect } else { Step::Pause }
}

async fn connect(shared: &Shared, timer: &mut Timer<'_>) {
    let (endpoint, within) = {
        let inner = shared.inner.lock();
        let Some(endpoint) = inner.rota.current().cloned() else { return };
        timer.arm(inner.core.poll_deadline());
        (endpoint, Duration::from(inner.core.connect_within()))
    };
    let mut attempt = pin!(tokio::time::timeout(within, Socket::connect(&endpoint)));
    let outcome = loop {
        tokio::select! {
            outcome = &mut attempt => break outcome,
            () = &mut timer.sleep => tick(shared, timer),
            () = shared.work.notified() => {}
        }
        let inner = shared.inner.lock();
        if inner.desk.lost().is_some() {
            return;
        }
        timer.arm(inner.core.poll_deadline());
        if inner.rota.current() != Some(&endpoint) {
            // The session is to go elsewhere.
            break Ok(Err(io::ErrorKind::Interrupted.into()));
        }
    };
    let outcome = outcome.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    shared.act(|inner, now| match outcome {
        Ok(socket) if inner.rota.current() == Some(&endpoint) => {
            inner.hang_up();
            inner.socket = Some(Arc::new(socket));
            inner.core.handle(now, Input::Connected);
        }
        outcome => {
            if let (Err(e), true) = (outcome, inner.rota.current() == Some(&endpoint)) {
                inner.rota.failed(now, trouble_of(e));
            }
            inner.core.handle(now, Input::Disconnected);
        }
    });
    shared.inner.lock().flush();
}

fn tick(shared: &Shared, timer: &mut Timer<'_>) {
    timer.armed = Time::ZERO;
    shared.act(|inner, now| inner.core.handle(now, Input::Tick));
    shared.inner.lock().flush();
}

/// What was read and is no whole frame yet. The room behind it is kept, so that reading clears none.
#[derive(Default)]
struct Unread {
    buffer: Vec<u8>,
    filled: usize,
}

impl Unread {
    fn read_from(&mut self, socket: &Socket) -> io::Result<usize> {
        if self.buffer.len() - self.filled < READ_BYTES {
            self.buffer.resize(self.filled + READ_BYTES, 0);
        }
        let count = socket.try_read(&mut self.buffer[self.filled..])?;
        self.filled += count;
        Ok(count)
    }

    fn bytes(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }

    fn consume(&mut self, used: usize) {
        if used > 0 {
            self.buffer.copy_within(used..self.filled, 0);
            self.filled -= used;
        }
        // A long frame needs its room once.
        if self.filled == 0 && self.buffer.len() > 4 * READ_BYTES {
            self.buffer = Vec::new();
        }
    }
}

/// Reads what is there and takes it in; whether several callers were answered.
fn read(shared: &Shared, socket: &Arc<Socket>, input: &mut Unread) -> io::Result<bool> {
    match input.read_from(socket) {
        Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
        Err(e) => return Err(e),
    }
    let mut wakers = Vec::new();
    let mut inner = shared.inner.lock();
    inner.driver_awake = true;
    let outcome = take_in(&mut inner, socket, input, &mut wakers);
    shared.publish(&mut inner);
    let busy = wakers.len() > 1 || !inner.out.is_empty();
    if !busy {
        inner.driver_awake = false;
    }
    drop(inner);
    wake_all(wakers);
    outcome.map(|()| busy)
}

fn take_in(
    inner: &mut Inner,
    socket: &Arc<Socket>,
    input: &mut Unread,
    wakers: &mut Vec<core::task::Waker>,
) -> io::Result<()> {
    let now = clock::now();
    let max = inner.core.node().map_or(FIRST_FRAME_BYTES, |n| n.frame_bytes.max(FIRST_FRAME_BYTES));
    let mut used = 0;
    while let Some((body, consumed)) = split_frame(&input.bytes()[used..], max).map_err(undecodable)? {
        for message in server_messages(body, &DecodeLimits::CEILING) {
            let message = message.map_err(undecodable)?;
            if let ServerMessage::Welcome(welcome) = &message {
                inner.writer = lockstead_wire::FrameWriter::new(welcome.frame_bytes);
            }
            inner.core.handle(now, Input::Message(message));
            inner.pump(now, wakers);
            if !inner.socket.as_ref().is_some_and(|s| Arc::ptr_eq(s, socket)) {
                // The session has left this connection; the rest of it is of no interest.
                input.filled = 0;
                return Ok(());
            }
        }
        used += consumed;
    }
    input.consume(used);
    Ok(())
}

fn undecodable(e: lockstead_wire::DecodeError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{e}"))
}

fn broken(shared: &Shared, socket: &Arc<Socket>, e: io::Error) {
    shared.act(|inner, now| {
        if inner.socket.as_ref().is_some_and(|s| Arc::ptr_eq(s, socket)) {
            inner.hang_up();
            // What worked until now is tried once more: to come back to the same node takes no claims.
            if !inner.core.is_live() {
                inner.rota.failed(now, trouble_of(e));
            }
            inner.core.handle(now, Input::Disconnected);
        }
    });
}

/// A timer that is moved only when it would fire too late. Firing too early costs one look at the clock.
struct Timer<'a> {
    sleep: Pin<&'a mut Sleep>,
    armed: Time,
}

impl Timer<'_> {
    fn arm(&mut self, deadline: Option<Time>) {
        let far = clock_far();
        let deadline = deadline.unwrap_or(far);
        if self.armed == Time::ZERO || deadline < self.armed {
            let pause = Duration::from(deadline.min(far).since(clock::now()));
            self.sleep.as_mut().reset(Instant::now() + pause);
            self.armed = deadline;
        }
    }
}

/// The longest sleep: the two clocks part while the machine is suspended, and are compared again at least so often.
fn clock_far() -> Time {
    clock::now().after(lockstead_types::Span::from_secs(60))
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use lockstead_types::{SessionId, Span, report::Meta};
    use tokio::net::UnixStream;

    use super::*;
    use crate::{endpoint::Endpoint, remote::Settings};

    /// In a runtime of one thread nothing is heard of, nor any timer fires, as long as a task finds something to do.
    #[test]
    fn a_write_that_fails_before_anything_was_read_ends_the_connection() {
        let (done, ended) = mpsc::channel();
        thread::spawn(move || {
            let settings = Settings {
                endpoints: vec![Endpoint::Unix("/nonexistent/node.sock".into())],
                in_order: true,
                ttl: Span::from_secs(10),
                guard: Span::ZERO,
                meta: Meta::default(),
                connect_timeout: Duration::from_secs(1),
                patient: true,
            };
            let shared = Arc::new(Shared::new(settings, SessionId(1)));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let (ours, theirs) = UnixStream::pair().expect("a pair");
                drop(theirs);
                shared.act(|inner, now| {
                    inner.socket = Some(Arc::new(Socket::Unix(ours)));
                    inner.core.handle(now, Input::Connected);
                });
                let driving = tokio::spawn(drive(Arc::clone(&shared)));
                while shared.inner.lock().socket.is_some() {
                    tokio::task::yield_now().await;
                }
                driving.abort();
            });
            done.send(()).expect("somebody waits");
        });
        ended.recv_timeout(Duration::from_secs(30)).expect("the connection is given up");
    }
}
