//! The link to one incarnation of another node: numbers what is sent, keeps it until it is acknowledged, repeats it over a new
//! connection, drops what arrives twice, and leaves for later what comes from an epoch not reached yet.

use alloc::{collections::VecDeque, vec::Vec};

use lockstead_types::{
    ConnId, Span, Time,
    peer::{Envelope, Incarnation, PeerMessage},
};

/// After so many messages received without one sent an acknowledgement goes by itself.
const ACK_EVERY: u64 = 64;
/// After so long one goes by itself.
const ACK_WITHIN: Span = Span::from_millis(20);
/// So often something is sent.
pub(crate) const ALIVE_EVERY: Span = Span::from_millis(500);
/// A connection over which so long nothing came is given up: one way of it may be dead.
pub(crate) const SILENT_FOR: Span = Span::from_millis(2_000);
/// Messages kept for a peer that does not acknowledge, and messages of a peer left for later.
pub(crate) const BACKLOG: usize = 1 << 20;

pub(crate) struct Link {
    pub(crate) incarnation: Incarnation,
    pub(crate) conn: Option<Connection>,
    sent: u64,
    unacknowledged: VecDeque<(u64, Stamp, PeerMessage)>,
    received: u64,
    acknowledged: u64,
    /// Received, and not handled yet.
    inbox: VecDeque<Envelope>,
}

/// The connection that carries a link now.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Connection {
    pub(crate) conn: ConnId,
    heard: Time,
    spoke: Time,
    /// Since when something received is not acknowledged.
    ack_since: Option<Time>,
}

/// What every message carries of its sender's state, as it was when the message was made.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Stamp {
    pub(crate) epoch: u32,
    pub(crate) scn: u64,
}

/// What a link wants sent beside the messages given to it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Chore {
    Nothing,
    Ack,
    Alive,
    /// The other side is silent: close the connection and make a new one.
    GiveUp,
}

/// The peer does not keep to the protocol, or lags without bound: the connection is to be closed.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Broken;

impl Link {
    pub(crate) fn new(incarnation: Incarnation) -> Link {
        Link {
            incarnation,
            conn: None,
            sent: 0,
            unacknowledged: VecDeque::new(),
            received: 0,
            acknowledged: 0,
            inbox: VecDeque::new(),
        }
    }

    /// The newest message received in order.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Whether so much waits to be acknowledged that nothing new should be begun.
    pub(crate) fn is_full(&self) -> bool {
        self.unacknowledged.len() >= BACKLOG / 2
    }

    /// Both sides have greeted each other over `conn`: what the other side has not received is sent again.
    pub(crate) fn connect(&mut self, now: Time, conn: ConnId, received_there: u64) -> Vec<Envelope> {
        #[cfg(feature = "planted")]
        let received_there = if lockstead_types::planted::is(lockstead_types::planted::Bug::LinkRepeats) {
            received_there.saturating_sub(2)
        } else {
            received_there
        };
        self.forget_acknowledged(received_there);
        self.conn = Some(Connection { conn, heard: now, spoke: now, ack_since: None });
        self.acknowledged = self.received;
        let ack = self.received;
        let again = |(seq, stamp, message): &(u64, Stamp, PeerMessage)| Envelope {
            seq: *seq,
            ack,
            epoch: stamp.epoch,
            scn: stamp.scn,
            message: message.clone(),
        };
        self.unacknowledged.iter().map(again).collect()
    }

    /// Numbers a message and keeps it; the envelope to send, where there is a connection.
    pub(crate) fn send(&mut self, now: Time, stamp: Stamp, message: PeerMessage) -> Option<(ConnId, Envelope)> {
        self.sent += 1;
        let out = self.conn.map(|c| {
            let ack = self.received;
            (c.conn, Envelope { seq: self.sent, ack, epoch: stamp.epoch, scn: stamp.scn, message: message.clone() })
        });
        self.unacknowledged.push_back((self.sent, stamp, message));
        self.note_spoken(now);
        out
    }

    /// Notes that whatever goes out now acknowledges everything received.
    pub(crate) fn note_spoken(&mut self, now: Time) {
        if let Some(conn) = &mut self.conn {
            conn.spoke = now;
            conn.ack_since = None;
            self.acknowledged = self.received;
        }
    }

    /// Takes in what arrived over the link's connection. `Ok(true)` where an acknowledgement is due at once.
    pub(crate) fn receive(&mut self, now: Time, envelope: Envelope) -> Result<bool, Broken> {
        if envelope.ack > self.sent {
            return Err(Broken);
        }
        self.forget_acknowledged(envelope.ack);
        if let Some(conn) = &mut self.conn {
            conn.heard = now;
        }
        #[cfg(feature = "planted")]
        if envelope.seq > 0
            && envelope.seq <= self.received
            && lockstead_types::planted::is(lockstead_types::planted::Bug::LinkRepeats)
        {
            self.inbox.push_back(envelope);
            return Ok(false);
        }
        if envelope.seq == 0 || envelope.seq <= self.received {
            return Ok(false);
        }
        // [CLUSTER-11] In order and without a gap, or something was lost that will not come again.
        if envelope.seq != self.received + 1 || self.inbox.len() >= BACKLOG {
            return Err(Broken);
        }
        self.received = envelope.seq;
        self.inbox.push_back(envelope);
        if let Some(conn) = &mut self.conn {
            conn.ack_since.get_or_insert(now);
        }
        Ok(self.received - self.acknowledged >= ACK_EVERY)
    }

    /// [CLUSTER-3] The next message to handle, if the receiver has reached its epoch.
    pub(crate) fn next(&mut self, epoch: u32) -> Option<Envelope> {
        #[cfg(feature = "planted")]
        if lockstead_types::planted::is(lockstead_types::planted::Bug::EpochNotAwaited) {
            return self.inbox.pop_front();
        }
        if self.inbox.front()?.epoch > epoch {
            return None;
        }
        self.inbox.pop_front()
    }

    fn forget_acknowledged(&mut self, ack: u64) {
        while self.unacknowledged.front().is_some_and(|(seq, ..)| *seq <= ack) {
            self.unacknowledged.pop_front();
        }
    }

    /// What is to be done by itself now.
    pub(crate) fn chore(&self, now: Time) -> Chore {
        let Some(conn) = self.conn else { return Chore::Nothing };
        if conn.heard.after(SILENT_FOR) <= now {
            Chore::GiveUp
        } else if conn.ack_since.is_some_and(|since| since.after(ACK_WITHIN) <= now) {
            Chore::Ack
        } else if conn.spoke.after(ALIVE_EVERY) <= now {
            Chore::Alive
        } else {
            Chore::Nothing
        }
    }

    /// When [`Link::chore`] should be asked next.
    pub(crate) fn next_chore(&self) -> Option<Time> {
        let conn = self.conn?;
        let other = conn.heard.after(SILENT_FOR).min(conn.spoke.after(ALIVE_EVERY));
        Some(conn.ack_since.map_or(other, |since| other.min(since.after(ACK_WITHIN))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { epoch: 1, scn: 0 };

    fn pass(link: &mut Link, envelope: Envelope) -> Result<bool, Broken> {
        link.receive(Time::ZERO, envelope)
    }

    fn pair() -> (Link, Link) {
        let mut pair = (Link::new(Incarnation(1)), Link::new(Incarnation(1)));
        pair.0.connect(Time::ZERO, ConnId(1), 0);
        pair.1.connect(Time::ZERO, ConnId(2), 0);
        pair
    }

    #[test]
    fn what_was_not_received_comes_again_and_once() {
        let (mut a, mut b) = pair();
        let first = a.send(Time::ZERO, STAMP, PeerMessage::Ack).expect("connected").1;
        assert_eq!(pass(&mut b, first.clone()), Ok(false));
        a.conn = None;
        assert_eq!(a.send(Time::ZERO, STAMP, PeerMessage::Alive), None);
        let again = a.connect(Time::ZERO, ConnId(3), b.received());
        assert_eq!(again.iter().map(|e| e.seq).collect::<Vec<_>>(), [2]);
        again.into_iter().for_each(|e| assert_eq!(pass(&mut b, e), Ok(false)));
        assert_eq!(pass(&mut b, first), Ok(false));
        assert_eq!((b.next(1).map(|e| e.seq), b.next(1).map(|e| e.seq), b.next(1)), (Some(1), Some(2), None));
    }

    #[test]
    fn a_gap_and_an_acknowledgement_of_the_future_break_it() {
        let (mut a, mut b) = pair();
        a.send(Time::ZERO, STAMP, PeerMessage::Ack);
        let second = a.send(Time::ZERO, STAMP, PeerMessage::Ack).expect("connected").1;
        assert_eq!(pass(&mut b, second), Err(Broken));
        let future = Envelope { seq: 1, ack: 7, epoch: 1, scn: 0, message: PeerMessage::Ack };
        assert_eq!(pass(&mut b, future), Err(Broken));
    }

    #[test]
    fn a_message_of_a_later_epoch_waits_with_all_behind_it() {
        let (mut a, mut b) = pair();
        let late = Stamp { epoch: 2, scn: 0 };
        for stamp in [late, STAMP] {
            let envelope = a.send(Time::ZERO, stamp, PeerMessage::Ack).expect("connected").1;
            assert_eq!(pass(&mut b, envelope), Ok(false));
        }
        assert_eq!(b.next(1), None);
        assert_eq!((b.next(2).map(|e| e.seq), b.next(2).map(|e| e.seq)), (Some(1), Some(2)));
    }

    #[test]
    fn silence_is_noticed_and_acknowledgements_go_by_themselves() {
        let (mut a, mut b) = pair();
        let at = |millis| Time::ZERO.after(Span::from_millis(millis));
        let envelope = a.send(Time::ZERO, STAMP, PeerMessage::Ack).expect("connected").1;
        assert_eq!(pass(&mut b, envelope), Ok(false));
        assert_eq!((b.chore(at(19)), b.chore(at(20))), (Chore::Nothing, Chore::Ack));
        b.note_spoken(at(20));
        assert_eq!((b.chore(at(519)), b.chore(at(520))), (Chore::Nothing, Chore::Alive));
        assert_eq!((b.next_chore(), b.chore(at(2_000))), (Some(at(520)), Chore::GiveUp));
    }
}
