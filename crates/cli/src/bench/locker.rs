//! One client of the bench: locks a name, releases it.

use lockstead::{Claim, Client, Error, Flags, LockId, Refusal, raw::RawSession};
use lockstead_types::{
    SpaceId,
    reply::Reply,
    request::{LockRequest, Op, OwnerRef, ReleaseRequest, Wait},
};

use super::Release;

/// A client. It asks through [`lockstead::raw`]: no guard is made, which a program that only locks and releases in a loop
/// does not need either.
#[derive(Clone)]
pub(crate) struct Locker {
    session: RawSession,
    release: Release,
    prefix: String,
}

/// What is measured where nothing is to be waited for must still let other clients of the thread run.
pub(crate) async fn let_others_run() {
    let mut yielded = false;
    core::future::poll_fn(|context| {
        if yielded {
            return core::task::Poll::Ready(());
        }
        yielded = true;
        context.waker().wake_by_ref();
        core::task::Poll::Pending
    })
    .await;
}

impl Locker {
    /// A client of a session. Names start with `prefix`.
    pub(crate) fn new(client: &Client, release: Release, prefix: String) -> Locker {
        Locker { session: client.raw(), release, prefix }
    }

    /// Waits for the lock of a number.
    ///
    /// # Errors
    /// Whatever refuses it.
    pub(crate) async fn acquire(&self, number: u64, claim: Claim) -> Result<LockId, Error> {
        let mut buffer = [0; 64];
        let length = name_of(&self.prefix, number, &mut buffer);
        let request = LockRequest {
            space: SpaceId(0),
            name: &buffer[..length],
            claim,
            wait: Wait::Forever,
            flags: Flags::NONE,
            owner: OwnerRef::Alone,
            tag: 0,
            priority: 0,
        };
        let mut pending = self.session.submit(Op::Lock(request))?;
        loop {
            match pending.next().await {
                Some(Reply::Granted(grant)) => return Ok(grant.lock),
                Some(Reply::Queued(_)) => {}
                Some(Reply::Refused(why)) => return Err(Error::Refused(why)),
                _ => return Err(Error::Refused(Refusal::Lost)),
            }
        }
    }

    /// Releases it.
    ///
    /// # Errors
    /// Whatever refuses it; a one-way release is not answered.
    pub(crate) async fn release(&self, lock: LockId) -> Result<(), Error> {
        let release = ReleaseRequest { lock, flags: Flags::NONE, value: None };
        if self.release == Release::OneWay {
            self.session.post(Op::Release { release, one_way: true });
            return Ok(());
        }
        let mut pending = self.session.submit(Op::Release { release, one_way: false })?;
        match pending.next().await {
            Some(Reply::Released) => Ok(()),
            Some(Reply::Refused(why)) => Err(Error::Refused(why)),
            _ => Err(Error::Refused(Refusal::Lost)),
        }
    }
}

/// The prefix and a number, made without allocation.
pub(super) fn name_of(prefix: &str, number: u64, buffer: &mut [u8; 64]) -> usize {
    // Prefixes are short: 64 bytes hold them and the 20 digits of the largest number. By hand, since the formatting of the
    // standard library takes as long as a tenth of the whole op.
    let prefix = prefix.as_bytes().get(..40).unwrap_or(prefix.as_bytes());
    let digits = number.checked_ilog10().unwrap_or(0) as usize + 1;
    let length = prefix.len() + digits;
    buffer[..prefix.len()].copy_from_slice(prefix);
    let mut rest = number;
    for place in buffer[prefix.len()..length].iter_mut().rev() {
        *place = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    length
}

#[cfg(test)]
mod tests {
    use super::name_of;

    #[test]
    fn names_are_prefix_and_number() {
        let mut buffer = [0; 64];
        let length = name_of("bench/", 42, &mut buffer);
        assert_eq!(&buffer[..length], b"bench/42");
        let length = name_of("bench/", 0, &mut buffer);
        assert_eq!(&buffer[..length], b"bench/0");
        let length = name_of("", u64::MAX, &mut buffer);
        assert_eq!(&buffer[..length], b"18446744073709551615");
    }
}
