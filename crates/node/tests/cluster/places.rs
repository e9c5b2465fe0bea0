//! Who waits keeps its place when it comes to another home ([CLUSTER-24]).

use lockstead_types::{
    Flags, LockId, Mode, Span,
    message::{ClientMessage, ServerMessage},
    reply::{Grant, Reply},
    request::{ConvertRequest, LockRequest, Op, OwnerRef, Stood, Wait},
};

use crate::rig::{Client, Cluster, EX, NL, PR, claim_of, granted, is_queued, is_released, request, stood};

/// A lock held by one, and two that wait for it in this order, the first at node 2.
struct Queue {
    cluster: Cluster,
    name: Vec<u8>,
    holder: Client,
    held: LockId,
    first: Client,
    stood: Stood,
    second: Client,
}

fn queue(master: u16) -> Queue {
    let mut cluster = Cluster::of(3);
    let name = cluster.name_at(master);
    let (mut holder, mut first, mut second) = (cluster.open(1, 1), cluster.open(2, 2), cluster.open(3, 3));
    let held = cluster.locked(&mut holder, &name, EX).lock;
    let stood = stood(&cluster.lock(&mut first, &name, EX));
    assert!(is_queued(&cluster.lock(&mut second, &name, EX)));
    Queue { cluster, name, holder, held, first, stood, second }
}

impl Queue {
    /// The first comes to node 1 and says again what it waits for.
    fn come(&mut self) {
        self.cluster.attach(&mut self.first, 1);
        self.say_again();
    }

    fn say_again(&mut self) {
        let told = self.cluster.again(&mut self.first, self.stood, Op::Lock(request(&self.name, EX)));
        assert!(is_queued(&told), "{told:?}");
        assert_eq!(self.cluster.say(&self.first, ClientMessage::ReclaimDone), []);
    }

    /// The one that came first is granted first.
    fn serve_in_order(mut self) {
        assert!(is_released(&self.cluster.release(&mut self.holder, self.held)));
        assert_eq!(granted(&self.cluster.told(self.second.conn)), None, "who came later was served before");
        let first = granted(&self.cluster.told(self.first.conn)).expect("it was the first");
        assert!(is_released(&self.cluster.release(&mut self.first, first.lock)));
        assert!(granted(&self.cluster.told(self.second.conn)).is_some_and(|g| g.token > first.token));
    }
}

#[test]
fn a_wait_outlives_its_home() {
    let mut queue = queue(3);
    queue.cluster.kill(2);
    queue.come();
    queue.cluster.evict(2);
    queue.serve_in_order();
}

#[test]
fn a_wait_outlives_home_and_master_in_one() {
    let mut queue = queue(2);
    queue.cluster.kill(2);
    queue.cluster.evict(2);
    queue.come();
    queue.serve_in_order();
}

#[test]
fn a_wait_said_again_before_its_master_is_known_to_be_dead_is_reported() {
    let mut queue = queue(2);
    queue.cluster.kill(2);
    queue.come();
    queue.cluster.evict(2);
    queue.serve_in_order();
}

#[test]
fn a_wait_whose_home_died_keeps_its_place_though_its_slot_moves() {
    let mut queue = queue(3);
    queue.cluster.kill(2);
    queue.cluster.evict(2);
    let name = queue.name.clone();
    queue.cluster.move_to(&name, 1);
    queue.come();
    queue.serve_in_order();
}

#[test]
fn a_wait_said_again_goes_along_when_its_slot_moves() {
    let mut queue = queue(3);
    queue.come();
    let name = queue.name.clone();
    queue.cluster.move_to(&name, 2);
    queue.serve_in_order();
}

#[test]
fn a_wait_outlives_two_homes() {
    let mut queue = queue(3);
    queue.come();
    queue.cluster.attach(&mut queue.first, 2);
    queue.say_again();
    queue.serve_in_order();
}

#[test]
fn a_session_that_comes_to_the_master_itself_waits_on() {
    let mut queue = queue(1);
    queue.cluster.kill(2);
    queue.come();
    queue.serve_in_order();
}

#[test]
fn what_was_granted_while_nobody_listened_is_told() {
    let mut queue = queue(3);
    queue.cluster.kill(2);
    assert!(is_released(&queue.cluster.release(&mut queue.holder, queue.held)));
    queue.cluster.attach(&mut queue.first, 1);
    let told = queue.cluster.again(&mut queue.first, queue.stood, Op::Lock(request(&queue.name, EX)));
    let first = granted(&told).expect("granted while it was away");
    assert!(first.seal.is_some());
    queue.cluster.say(&queue.first, ClientMessage::ReclaimDone);
    assert_eq!(granted(&queue.cluster.told(queue.second.conn)), None);
    assert!(is_released(&queue.cluster.release(&mut queue.first, first.lock)));
    assert!(granted(&queue.cluster.told(queue.second.conn)).is_some_and(|g| g.token > first.token));
}

#[test]
fn what_was_granted_before_the_claims_end_is_claimed_from_the_same_home() {
    let mut queue = queue(3);
    queue.cluster.kill(2);
    assert!(is_released(&queue.cluster.release(&mut queue.holder, queue.held)));
    queue.cluster.attach(&mut queue.first, 1);
    let told = queue.cluster.again(&mut queue.first, queue.stood, Op::Lock(request(&queue.name, EX)));
    let first = granted(&told).expect("granted while it was away");
    // The connection breaks before its client has said that it has claimed all.
    queue.cluster.attach(&mut queue.first, 1);
    let again = queue.cluster.claim(&queue.first, &queue.name, &first);
    assert_eq!(again, Some(first.lock), "the same lock");
    let under = |lock| Grant { lock, ..first.clone() };
    let other = queue.cluster.claim(&queue.first, &queue.name, &under(LockId(77)));
    assert_eq!(other, None, "one seal is good for one lock");
    assert_eq!(queue.cluster.claim(&queue.first, &queue.name, &first), again, "said once more");
    queue.cluster.say(&queue.first, ClientMessage::ReclaimDone);
    assert_eq!(granted(&queue.cluster.told(queue.second.conn)), None);
    assert!(is_released(&queue.cluster.release(&mut queue.first, first.lock)));
    assert!(granted(&queue.cluster.told(queue.second.conn)).is_some_and(|g| g.token > first.token));
}

#[test]
fn what_was_converted_before_the_claims_end_is_claimed_as_it_is_now() {
    let (mut queue, mine) = conversions(3);
    queue.cluster.kill(2);
    queue.cluster.attach(&mut queue.first, 1);
    let lock = queue.cluster.claim(&queue.first, &queue.name, &mine).expect("its own lock");
    let convert = ConvertRequest { lock, mode: EX, wait: Wait::Forever, flags: Flags::NONE, value: None };
    assert!(is_queued(&queue.cluster.again(&mut queue.first, queue.stood, Op::Convert(convert))));
    assert!(is_released(&queue.cluster.release(&mut queue.holder, queue.held)));
    let now = granted(&queue.cluster.told(queue.first.conn)).expect("it was the first");
    // The connection breaks before its client has said that it has claimed all, and the home dies after it has.
    queue.cluster.attach(&mut queue.first, 1);
    let known = Grant { lock: mine.lock, ..now.clone() };
    let (claim, sealed) = claim_of(&queue.name, &known);
    let id = lockstead_types::RequestId(1 << 63);
    let told = queue.cluster.say(&queue.first, ClientMessage::Reclaim { id, claim, sealed });
    let answer = granted(&told).expect("its own lock");
    assert_eq!((answer.token, answer.seal), (now.token, now.seal), "what it was granted last");
}

#[test]
fn what_is_not_said_again_waits_no_more() {
    let mut queue = queue(3);
    queue.cluster.attach(&mut queue.first, 1);
    queue.cluster.say(&queue.first, ClientMessage::ReclaimDone);
    assert!(is_released(&queue.cluster.release(&mut queue.holder, queue.held)));
    assert!(granted(&queue.cluster.told(queue.second.conn)).is_some());
    assert_eq!(queue.cluster.told(queue.first.conn), []);
}

#[test]
fn a_place_is_that_of_what_was_asked_and_of_nothing_else() {
    let mut queue = queue(3);
    let other = queue.cluster.names_at(3, 2).remove(1);
    queue.cluster.attach(&mut queue.first, 1);
    let stood = queue.stood;
    // Another mode, another name, a ticket nobody gave: asked like anything new, at the end.
    let asked: [(&[u8], Mode, u64); 3] =
        [(&queue.name, PR, stood.ticket), (&other, EX, stood.ticket), (&queue.name, EX, u64::MAX)];
    let mut told = Vec::new();
    for (tag, (name, mode, ticket)) in (1..).zip(asked) {
        let asked = LockRequest { tag, ..request(name, mode) };
        told.push(queue.cluster.again(&mut queue.first, Stood { ticket, ..stood }, Op::Lock(asked)));
    }
    assert_eq!(told.iter().map(|told| granted(told).is_some()).collect::<Vec<_>>(), [false, true, false]);
    queue.cluster.say(&queue.first, ClientMessage::ReclaimDone);
    assert!(is_released(&queue.cluster.release(&mut queue.holder, queue.held)));
    assert!(granted(&queue.cluster.told(queue.second.conn)).is_some());
}

#[test]
fn a_wait_said_again_ends_when_it_would_have_ended() {
    let mut cluster = Cluster::of(3);
    let name = cluster.name_at(3);
    let (mut holder, mut first) = (cluster.open(1, 1), cluster.open(2, 2));
    cluster.locked(&mut holder, &name, EX);
    let bounded = LockRequest { wait: Wait::For(Span::from_secs(5)), ..request(&name, PR) };
    let mut place = stood(&cluster.ask(&mut first, Op::Lock(bounded)));
    cluster.pass(Span::from_secs(3));
    place.waited = Span::from_secs(3);
    cluster.attach(&mut first, 1);
    assert!(is_queued(&cluster.again(&mut first, place, Op::Lock(bounded))));
    cluster.say(&first, ClientMessage::ReclaimDone);
    cluster.pass(Span::from_millis(2_100));
    let told = cluster.told(first.conn);
    assert!(told.iter().any(|m| matches!(m, ServerMessage::Reply { reply: Reply::Refused(_), .. })), "{told:?}");
}

#[test]
fn a_wait_said_again_is_cancelled_like_any_other() {
    let mut queue = queue(2);
    queue.cluster.kill(2);
    queue.come();
    let told = queue.cluster.say(
        &queue.first,
        ClientMessage::Request {
            id: lockstead_types::RequestId(50),
            op: Op::Cancel(lockstead_types::request::Target::Request(lockstead_types::RequestId(2))),
        },
    );
    assert_eq!(told, [], "its master is dead");
    queue.cluster.evict(2);
    let told = queue.cluster.told(queue.first.conn);
    assert_eq!(told.iter().filter(|m| matches!(m, ServerMessage::Reply { reply: Reply::Cancelled, .. })).count(), 2);
    assert!(is_released(&queue.cluster.release(&mut queue.holder, queue.held)));
    assert!(granted(&queue.cluster.told(queue.second.conn)).is_some());
}

/// Two hold NL and wait to convert it to EX while another holds PR, the first at node 2.
fn conversions(master: u16) -> (Queue, Grant) {
    let mut cluster = Cluster::of(3);
    let name = cluster.name_at(master);
    let (mut holder, mut first, mut second) = (cluster.open(1, 1), cluster.open(2, 2), cluster.open(3, 3));
    let mine = cluster.locked(&mut first, &name, NL);
    let its = cluster.locked(&mut second, &name, NL);
    let held = cluster.locked(&mut holder, &name, PR).lock;
    let stood = stood(&cluster.convert(&mut first, mine.lock, EX));
    assert!(is_queued(&cluster.convert(&mut second, its.lock, EX)));
    (Queue { cluster, name, holder, held, first, stood, second }, mine)
}

fn converts_in_order((mut queue, mine): (Queue, Grant)) {
    queue.cluster.attach(&mut queue.first, 1);
    let lock = queue.cluster.claim(&queue.first, &queue.name, &mine).expect("its own lock");
    let convert = ConvertRequest { lock, mode: EX, wait: Wait::Forever, flags: Flags::NONE, value: None };
    let told = queue.cluster.again(&mut queue.first, queue.stood, Op::Convert(convert));
    assert!(is_queued(&told), "{told:?}");
    assert_eq!(queue.cluster.say(&queue.first, ClientMessage::ReclaimDone), []);
    queue.serve_in_order();
}

#[test]
fn a_conversion_keeps_its_place_too() {
    let (mut queue, mine) = conversions(3);
    queue.cluster.kill(2);
    queue.cluster.evict(2);
    converts_in_order((queue, mine));
    let (mut queue, mine) = conversions(2);
    queue.cluster.kill(2);
    queue.cluster.evict(2);
    converts_in_order((queue, mine));
}

#[test]
fn locks_that_stand_alone_are_told_apart() {
    let mut cluster = Cluster::of(3);
    let name = cluster.name_at(3);
    let (mut holder, mut a) = (cluster.open(1, 1), cluster.open(2, 2));
    let held = cluster.locked(&mut holder, &name, EX).lock;
    let alone = LockRequest { owner: OwnerRef::Alone, ..request(&name, EX) };
    let places = [0; 3].map(|_| stood(&cluster.ask(&mut a, Op::Lock(alone))));
    cluster.kill(2);
    cluster.release(&mut holder, held);
    // The first was granted; they come in another order.
    cluster.attach(&mut a, 1);
    let told = [2, 0, 1].map(|n: usize| cluster.again(&mut a, places[n], Op::Lock(alone)));
    assert!(is_queued(&told[0]) && is_queued(&told[2]));
    let first = granted(&told[1]).expect("granted before");
    cluster.say(&a, ClientMessage::ReclaimDone);
    assert!(is_released(&cluster.release(&mut a, first.lock)));
    let told = cluster.told(a.conn);
    assert!(matches!(&told[..], []), "told with the release: {told:?}");
}
