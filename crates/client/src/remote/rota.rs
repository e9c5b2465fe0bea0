//! Which endpoint a session tries next: the one in use as long as it works, then the others, those that failed lately last.

use std::{io, string::ToString};

use lockstead_types::{Span, Time, message::Rejection};

use crate::{
    endpoint::Endpoint,
    error::{Tried, Trouble},
};

/// For so long an endpoint that failed is tried only after all others.
const AVOIDED_FOR: Span = Span::from_secs(10);

/// The endpoints of a session.
pub(super) struct Rota {
    ways: Vec<Way>,
    /// The one in use, or to be tried next.
    at: usize,
}

struct Way {
    endpoint: Endpoint,
    failed: Option<(Time, Trouble)>,
}

impl Rota {
    /// Begins with `ways[first]`, any number. The list has one endpoint at least.
    pub(super) fn new(endpoints: Vec<Endpoint>, first: usize) -> Rota {
        let at = first % endpoints.len().max(1);
        Rota { ways: endpoints.into_iter().map(|endpoint| Way { endpoint, failed: None }).collect(), at }
    }

    /// The endpoint in use, or to be tried now.
    pub(super) fn current(&self) -> Option<&Endpoint> {
        self.ways.get(self.at).map(|way| &way.endpoint)
    }

    /// The endpoint in use works.
    pub(super) fn worked(&mut self) {
        if let Some(way) = self.ways.get_mut(self.at) {
            way.failed = None;
        }
    }

    /// The endpoint in use does not work: another one is next, where there is one.
    pub(super) fn failed(&mut self, now: Time, trouble: Trouble) {
        if let Some(way) = self.ways.get_mut(self.at) {
            way.failed = Some((now, trouble));
        }
        let count = self.ways.len();
        let others = (1..=count).map(|step| (self.at + step) % count);
        // Nothing in time comes before "never": of those to be avoided the one that failed first.
        let rank = |at: &usize| match &self.ways[*at].failed {
            Some((when, _)) if now < when.after(AVOIDED_FOR) => Some(*when),
            _ => None,
        };
        if let Some(next) = others.min_by_key(rank) {
            self.at = next;
        }
    }

    /// Whether none of them works, as of the last try of each.
    pub(super) fn all_failed(&self) -> bool {
        self.ways.iter().all(|way| way.failed.is_some())
    }

    /// A node turned the connection away.
    pub(super) fn rejected(&mut self, now: Time, why: Rejection) {
        match why {
            // About this connection, and not about the node.
            Rejection::Superseded | Rejection::Credit | Rejection::SlowReader | Rejection::FrameTooLong => {}
            _ => self.failed(now, Trouble::Rejected(why)),
        }
    }

    /// Goes to that endpoint next, which need not have been in the list.
    pub(super) fn prefer(&mut self, endpoint: Endpoint) {
        self.at = self.ways.iter().position(|way| way.endpoint == endpoint).unwrap_or_else(|| {
            self.ways.push(Way { endpoint, failed: None });
            self.ways.len() - 1
        });
    }

    /// What became of each, the one tried last at the end.
    pub(super) fn tried(&self) -> Vec<Tried> {
        let mut tried: Vec<(Option<Time>, Tried)> = Vec::new();
        for (at, way) in self.ways.iter().enumerate() {
            let (when, why) = match &way.failed {
                Some((when, why)) => (Some(*when), copy_of(why)),
                None if at == self.at => (None, Trouble::NoAnswer),
                None => (None, Trouble::NotTried),
            };
            tried.push((when, Tried { endpoint: way.endpoint.to_string(), why }));
        }
        tried.sort_by_key(|(when, _)| *when);
        tried.into_iter().map(|(_, tried)| tried).collect()
    }
}

fn copy_of(trouble: &Trouble) -> Trouble {
    match trouble {
        Trouble::Io(e) => Trouble::Io(io::Error::new(e.kind(), e.to_string())),
        Trouble::Rejected(why) => Trouble::Rejected(*why),
        Trouble::NoAnswer => Trouble::NoAnswer,
        Trouble::NotTried => Trouble::NotTried,
    }
}

/// Why a connection could not be made, or broke.
pub(super) fn trouble_of(e: io::Error) -> Trouble {
    if e.kind() == io::ErrorKind::TimedOut { Trouble::NoAnswer } else { Trouble::Io(e) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rota(count: u16) -> Rota {
        Rota::new((0..count).map(|n| Endpoint::Tcp(n.to_string())).collect(), 0)
    }

    fn at(seconds: u64) -> Time {
        Time::ZERO.after(Span::from_secs(seconds))
    }

    fn current(rota: &Rota) -> String {
        rota.current().map(ToString::to_string).unwrap_or_default()
    }

    fn after_failure(rota: &mut Rota, now: u64) -> String {
        rota.failed(at(now), Trouble::NoAnswer);
        current(rota)
    }

    #[test]
    fn each_is_tried_in_turn_and_one_alone_again_and_again() {
        let mut three = rota(3);
        let order: Vec<String> = (1..=6).map(|now| after_failure(&mut three, now)).collect();
        assert_eq!(order, ["1", "2", "0", "1", "2", "0"]);
        let mut one = rota(1);
        assert_eq!((after_failure(&mut one, 1), after_failure(&mut one, 2)), ("0".into(), "0".into()));
    }

    #[test]
    fn one_that_failed_lately_is_tried_last() {
        let mut three = rota(3);
        assert_eq!(after_failure(&mut three, 1), "1");
        three.worked();
        assert_eq!(after_failure(&mut three, 5), "2");
        three.worked();
        assert_eq!(after_failure(&mut three, 6), "0", "it failed first of all");
        let mut three = rota(3);
        three.failed(at(1), Trouble::NoAnswer);
        three.failed(at(2), Trouble::NoAnswer);
        three.worked();
        // Long after, what failed then is as good as any.
        assert_eq!(after_failure(&mut three, 100), "0");
    }

    #[test]
    fn what_is_wrong_with_the_connection_is_not_wrong_with_the_node() {
        let mut two = rota(2);
        two.rejected(at(1), Rejection::SlowReader);
        assert_eq!(current(&two), "0");
        two.rejected(at(1), Rejection::NoAuthority);
        assert_eq!(current(&two), "1");
    }

    #[test]
    fn a_choice_is_tried_before_the_rest() {
        let mut two = rota(2);
        two.prefer(Endpoint::Tcp("9".into()));
        assert_eq!(current(&two), "9");
        assert_eq!(after_failure(&mut two, 1), "0");
        let tried: Vec<String> = two.tried().iter().map(ToString::to_string).collect();
        assert_eq!(tried, ["0: no answer in time", "1: not tried", "9: no answer in time"]);
    }
}
