//! The steward, with time made by hand.

use lockstead_cluster::{Command, Steward, StewardConfig};
use lockstead_types::{NodeId, SessionId, Span, Time, peer::Incarnation};

use crate::support::Group;

const TTL: Span = Span::from_secs(10);

/// A leader's steward over a group, polled every 100 ms.
struct Term {
    group: Group,
    steward: Steward,
    now: Time,
    /// Who renews at each poll.
    renewing: Vec<u16>,
    seen: Vec<(u64, Command)>,
}

impl Term {
    fn new(group: Group, at: u64) -> Term {
        let now = ms(at);
        let steward = Steward::new(StewardConfig::default(), now);
        Term { group, steward, now, renewing: Vec::new(), seen: Vec::new() }
    }

    /// Until `at`, applying what it says.
    fn run(&mut self, at: u64) {
        while self.now < ms(at) {
            self.step(true);
        }
    }

    fn step(&mut self, committing: bool) {
        self.now = self.now.after(Span::from_millis(100));
        for node in &self.renewing {
            let incarnation = self.group.incarnation(*node);
            let _ = self.steward.on_renewal(self.now, &self.group.state, NodeId(*node), incarnation);
        }
        for command in self.steward.poll(self.now, &self.group.state) {
            self.seen.push((self.now.as_nanos() / 1_000_000, command.clone()));
            if committing {
                self.group.must(&command);
            }
        }
    }

    fn evictions(&self) -> Vec<(u64, u16)> {
        self.said(|command| match command {
            Command::Evict { node, .. } => Some(node.0),
            _ => None,
        })
    }

    fn ends(&self) -> Vec<(u64, u128)> {
        self.said(|command| match command {
            Command::EndSession { session, .. } => Some(session.0),
            _ => None,
        })
    }

    fn said<T>(&self, pick: impl Fn(&Command) -> Option<T>) -> Vec<(u64, T)> {
        self.seen.iter().filter_map(|(at, command)| Some((*at, pick(command)?))).collect()
    }
}

fn ms(at: u64) -> Time {
    Time::ZERO.after(Span::from_millis(at))
}

#[test]
fn nobody_is_evicted_before_a_full_authority_after_its_last_renewal() {
    let mut term = Term::new(Group::up(&[1, 1, 1]), 1_000);
    term.renewing = vec![1, 2, 3];
    term.run(5_000);
    term.renewing = vec![1, 2];
    term.run(7_900);
    assert_eq!(term.seen, []);
    term.run(20_000);
    assert_eq!(term.evictions(), [(8_000, 3)]);
    assert_eq!(term.group.spread(), [2048, 2048, 0]);
}

#[test]
fn a_new_leader_evicts_nobody_for_a_full_authority() {
    let mut term = Term::new(Group::up(&[1, 1, 1]), 1_000);
    term.renewing = vec![1, 2];
    term.run(3_900);
    let mut next = Term::new(term.group, 4_000);
    next.renewing = vec![2];
    next.run(7_000);
    assert_eq!(next.seen, []);
    next.run(7_500);
    // Both in one poll: their slots go to those who stay, not from one dead to the other.
    assert_eq!(next.evictions(), [(7_100, 1), (7_100, 3)]);
}

#[test]
fn a_member_that_starts_late_has_a_full_authority_to_renew() {
    let mut term = Term::new(Group::formed(&[1, 1]), 1_000);
    term.group.start(1);
    term.renewing = vec![1];
    term.run(9_000);
    term.group.start(2);
    term.run(12_000);
    assert_eq!(term.evictions(), []);
    term.run(13_000);
    assert_eq!(term.evictions(), [(12_100, 2)]);
}

#[test]
fn once_its_eviction_is_proposed_a_member_is_renewed_no_more() {
    let mut term = Term::new(Group::up(&[1, 1]), 0);
    term.renewing = vec![1];
    while term.evictions().is_empty() {
        term.step(false);
    }
    let at = term.now;
    assert!(!term.steward.on_renewal(at, &term.group.state, NodeId(2), Incarnation(1)));
    assert!(term.steward.on_renewal(at, &term.group.state, NodeId(1), Incarnation(1)));
    // Not committed: it says so again, not at once.
    for _ in 0..10 {
        term.step(false);
    }
    assert_eq!(term.evictions(), [(3_100, 2), (4_100, 2)]);
    // Its next start is another member.
    term.group.start(2);
    assert!(term.steward.on_renewal(at, &term.group.state, NodeId(2), Incarnation(2)));
    assert!(!term.steward.on_renewal(at, &term.group.state, NodeId(2), Incarnation(1)));
}

#[test]
fn a_leader_that_slept_evicts_nobody_for_it() {
    let mut term = Term::new(Group::up(&[1, 1]), 0);
    term.renewing = vec![1, 2];
    term.run(1_000);
    term.renewing = vec![];
    term.now = ms(60_000);
    term.run(63_000);
    assert_eq!(term.seen, []);
}

#[test]
fn a_session_without_a_home_ends_after_its_full_lease() {
    let mut term = Term::new(Group::up(&[1, 1]), 0);
    term.group.open(1, 1, TTL);
    term.group.open(2, 2, TTL);
    term.renewing = vec![1];
    term.run(3_100);
    assert_eq!(term.evictions(), [(3_100, 2)]);
    // Of the loss it knows at the next poll.
    term.run(13_100);
    assert_eq!(term.ends(), []);
    term.run(20_000);
    assert_eq!(term.ends(), [(13_200, 2)]);
    assert!(term.group.state.sessions.contains_key(&SessionId(1)));
}

#[test]
fn a_change_of_leader_starts_the_lease_of_the_homeless_again() {
    let mut group = Group::up(&[1, 1]);
    group.open(2, 2, TTL);
    group.evict(2);
    let mut term = Term::new(group, 0);
    term.renewing = vec![1];
    term.run(9_000);
    let mut next = Term::new(term.group, 9_000);
    next.renewing = vec![1];
    next.run(25_000);
    assert_eq!(next.ends(), [(19_100, 2)]);
}

#[test]
fn an_end_that_was_lost_is_proposed_again() {
    let mut group = Group::up(&[1, 1]);
    group.open(2, 2, Span::from_millis(500));
    group.evict(2);
    let mut term = Term::new(group, 0);
    term.renewing = vec![1];
    for _ in 0..20 {
        term.step(false);
    }
    assert_eq!(term.ends(), [(600, 2), (1_600, 2)]);
}

#[test]
fn slots_of_a_seat_that_never_comes_go_to_those_who_did() {
    let mut term = Term::new(Group::formed(&[1, 1, 1]), 0);
    term.group.start(1);
    term.group.start(2);
    term.renewing = vec![1, 2];
    term.run(10_000);
    assert_eq!(term.seen, []);
    term.run(10_200);
    assert_eq!(term.group.spread(), [2048, 2048, 0]);
    assert_eq!(term.seen.len(), 1);
}

#[test]
fn slots_move_in_small_batches_one_after_another() {
    let mut term = Term::new(Group::up(&[1, 1]), 0);
    term.group.drain(2);
    term.renewing = vec![1, 2];
    term.run(20_000);
    assert_eq!(term.group.spread(), [4096, 0]);
    let batches = term.said(|command| match command {
        Command::Move { slots } => Some(slots.len()),
        _ => None,
    });
    assert_eq!(batches.len(), 32);
    assert!(batches.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 250 && pair[1].1 <= 64), "{batches:?}");
}

/// Who is wanted where these vote.
fn wanted(group: &Group, now: &[u16]) -> Vec<u16> {
    let now = now.iter().map(|node| NodeId(*node)).collect();
    group.state.voters_wanted(&now).iter().map(|node| node.0).collect()
}

#[test]
fn voters_are_odd_and_a_witness_fills_in() {
    let mut group = Group::up(&[1; 7]);
    assert_eq!(wanted(&group, &[1]), [1, 2, 3, 4, 5]);
    group.evict(2);
    assert_eq!(wanted(&group, &[1, 2, 3, 4, 5]), [1, 3, 4, 5, 6]);
    assert_eq!(wanted(&Group::up(&[1, 1]), &[1]), [1]);
    assert_eq!(wanted(&Group::up(&[1, 1, 0]), &[1]), [1, 2, 3]);
    assert_eq!(wanted(&Group::formed(&[1, 1]), &[]), []);
}

#[test]
fn with_a_witness_the_last_of_those_who_die_one_after_another_has_a_majority() {
    let mut group = Group::up(&[1, 1, 1, 0]);
    assert_eq!(wanted(&group, &[1]), [1, 2, 3]);
    group.evict(1);
    assert_eq!(wanted(&group, &[1, 2, 3]), [2, 3, 4]);
    group.evict(3);
    // The last one and the witness are two of these three, and would be needed both as two of two.
    assert_eq!(wanted(&group, &[2, 3, 4]), [2, 3, 4]);
    group.start(1);
    assert_eq!(wanted(&group, &[2, 3, 4]), [1, 2, 4]);
    group.start(3);
    assert_eq!(wanted(&group, &[1, 2, 4]), [1, 2, 3]);
}

#[test]
fn voters_stay_where_fewer_would_survive_no_more() {
    let mut group = Group::up(&[1; 3]);
    group.evict(3);
    assert_eq!(wanted(&group, &[1, 2, 3]), [1, 2, 3]);
    group.must(&Command::Remove { node: NodeId(3) });
    assert_eq!(wanted(&group, &[1, 2, 3]), [1, 2]);
    let mut group = Group::up(&[1; 5]);
    group.evict(5);
    assert_eq!(wanted(&group, &[1, 2, 3, 4, 5]), [1, 2, 3, 4, 5]);
    group.evict(4);
    assert_eq!(wanted(&group, &[1, 2, 3, 4, 5]), [1, 2, 3]);
    group.evict(2);
    assert_eq!(wanted(&group, &[1, 2, 3]), [1, 2, 3]);
}
