//! A client as far as safety needs one: it counts answers, keeps its own deadline, and claims its locks after a restart.

use std::collections::BTreeMap;

use lockstead_types::{
    ConnId, Flags, LockId, RequestId, SessionId, Span, Time, Token,
    message::{Attached, ClientMessage, ServerMessage},
    reply::{Grant, Notice, Reply},
    request::{Claim, Op, Target, Wait},
};

use crate::rig::*;

pub(crate) const NAMES: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Lock {
        name: usize,
        claim: Claim,
        wait: Wait,
    },
    Many {
        names: Vec<usize>,
        claim: Claim,
        wait: Wait,
    },
    /// Of a lock held under its id.
    Convert {
        lock: LockId,
        claim: Claim,
    },
    Release {
        lock: LockId,
    },
    Cancel {
        request: u64,
    },
    Sync,
}

#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) name: usize,
    pub(crate) claim: Claim,
    pub(crate) token: Token,
    /// What it calls the lock, whatever the node does.
    key: u64,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// No connection.
    Away,
    /// Said hello.
    Greeting,
    /// Asked to open or attach.
    Entering,
    Open,
    /// Claims are under way.
    Claiming,
}

pub(crate) struct Client {
    pub(crate) session: SessionId,
    pub(crate) local: bool,
    pub(crate) conn: ConnId,
    pub(crate) phase: Phase,
    pub(crate) opened: bool,
    pub(crate) deadline: Time,
    pub(crate) held: BTreeMap<LockId, Held>,
    /// Held before a restart of the node, and not claimed yet.
    unclaimed: BTreeMap<u64, Held>,
    epoch: u32,
    keys: u64,
    pub(crate) pending: BTreeMap<u64, Ask>,
    answers: u64,
    asked: u64,
    entered: Time,
    renewals: BTreeMap<u64, Time>,
    /// Messages to send.
    pub(crate) out: Vec<Said>,
}

/// What a client sends, with names of its own so that it can be kept.
#[derive(Clone, Debug)]
pub(crate) enum Said {
    Plain(ClientMessage<'static>),
    Request(u64, Ask),
    Claim(Held),
}

impl Client {
    pub(crate) fn new(session: u128, local: bool) -> Client {
        Client {
            session: SessionId(session),
            local,
            conn: ConnId(0),
            phase: Phase::Away,
            opened: false,
            deadline: Time::ZERO,
            held: BTreeMap::new(),
            unclaimed: BTreeMap::new(),
            epoch: 0,
            keys: 0,
            pending: BTreeMap::new(),
            answers: 0,
            asked: 0,
            entered: Time::ZERO,
            renewals: BTreeMap::new(),
            out: Vec::new(),
        }
    }

    /// Whether it would act on its locks now.
    pub(crate) fn believes(&self, now: Time) -> bool {
        self.opened && now < self.deadline
    }

    /// All locks it would act on.
    pub(crate) fn all_held(&self) -> impl Iterator<Item = &Held> {
        self.held.values().chain(self.unclaimed.values())
    }

    pub(crate) fn connected(&mut self, conn: ConnId) {
        self.conn = conn;
        self.phase = Phase::Greeting;
        self.renewals.clear();
        self.out.clear();
        self.out.push(Said::Plain(ClientMessage::Hello { version: 1 }));
    }

    pub(crate) fn ask(&mut self, ask: Ask) {
        self.asked += 1;
        // What it gives up it gives up before it says so.
        match &ask {
            Ask::Release { lock } => drop(self.held.remove(lock)),
            Ask::Convert { lock, claim } => {
                // Sideways (CW to PR) nothing of the old mode is certain from here on: it may be gone before the answer is heard.
                if let Some(held) = self.held.get_mut(lock)
                    && !is_down(*claim, held.claim)
                {
                    held.claim = if is_down(held.claim, *claim) { *claim } else { NL };
                }
            }
            Ask::Lock { .. } | Ask::Many { .. } | Ask::Cancel { .. } | Ask::Sync => {}
        }
        self.pending.insert(self.asked, ask.clone());
        self.out.push(Said::Request(self.asked, ask));
    }

    pub(crate) fn renew(&mut self, now: Time) {
        let seq = now.as_nanos();
        self.renewals.insert(seq, now);
        self.out.push(Said::Plain(ClientMessage::Renew { seq }));
        self.out.push(Said::Plain(ClientMessage::Ack { answers: self.answers }));
    }

    /// What it hears. `Err` says that it was told something it must never be told.
    pub(crate) fn hear(&mut self, now: Time, message: ServerMessage) -> Result<(), String> {
        match message {
            ServerMessage::Welcome(welcome) => {
                if welcome.epoch != self.epoch {
                    self.unclaimed.extend(core::mem::take(&mut self.held).into_values().map(|held| (held.key, held)));
                    self.epoch = welcome.epoch;
                }
                self.entered = now;
                self.phase = Phase::Entering;
                let enter = if self.opened { attach(self.session, self.answers) } else { open(self.session) };
                self.out.push(Said::Plain(enter));
            }
            ServerMessage::Opened { ttl } => {
                self.opened = true;
                self.phase = Phase::Open;
                self.renewed(self.entered, ttl);
            }
            ServerMessage::Attached(attached) => self.on_attached(&attached),
            ServerMessage::Renewed { seq } => {
                if let Some(sent) = self.renewals.remove(&seq).filter(|_| self.phase == Phase::Open) {
                    self.renewed(sent, TTL);
                }
            }
            ServerMessage::Reply { id, reply } if id.0 >> 63 == 1 => return self.on_claimed(now, id, reply),
            ServerMessage::Reply { id, reply } => {
                self.answers += 1;
                return self.on_reply(id.0, reply);
            }
            ServerMessage::Notice(Notice::Revoked { lock, .. }) => return Err(format!("{lock:?} was taken away")),
            ServerMessage::Notice(_) => {}
            ServerMessage::Ended if self.believes(now) => return Err("its session was ended early".into()),
            ServerMessage::Ended | ServerMessage::Bye => self.opened = false,
            ServerMessage::Rejected { .. } => self.phase = Phase::Away,
        }
        Ok(())
    }

    /// DESIGN: counted from when it was sent.
    fn renewed(&mut self, sent: Time, ttl: Span) {
        self.deadline = self.deadline.max(sent.after(ttl.scaled(99, 101)));
    }

    fn on_attached(&mut self, attached: &Attached) {
        if !attached.reclaim {
            self.phase = Phase::Open;
            self.renewed(self.entered, attached.ttl);
            let unseen = self.pending.range(attached.seen.0 + 1..).map(|(id, ask)| Said::Request(*id, ask.clone()));
            self.out.extend(unseen);
            return;
        }
        self.phase = Phase::Claiming;
        self.answers = 0;
        // What was about a lock of before is over or is asked anew.
        self.pending.retain(|_, ask| matches!(ask, Ask::Lock { .. } | Ask::Many { .. } | Ask::Sync));
        self.out.extend(self.unclaimed.values().cloned().map(Said::Claim));
        self.finish_claims();
    }

    fn on_claimed(&mut self, now: Time, id: RequestId, reply: Reply) -> Result<(), String> {
        let Some(held) = self.unclaimed.remove(&(id.0 & !(1 << 63))) else { return Ok(()) };
        match reply {
            Reply::Granted(grant) if grant.token == held.token && grant.claim == held.claim => {
                self.held.insert(grant.lock, held);
            }
            other if self.believes(now) => return Err(format!("its claim of {held:?} was answered {other:?}")),
            _ => {}
        }
        self.finish_claims();
        Ok(())
    }

    fn finish_claims(&mut self) {
        if self.unclaimed.is_empty() {
            self.phase = Phase::Open;
            self.renewed(self.entered, TTL);
            self.out.push(Said::Plain(ClientMessage::ReclaimDone));
            self.out.extend(self.pending.iter().map(|(id, ask)| Said::Request(*id, ask.clone())));
        }
    }

    fn on_reply(&mut self, id: u64, reply: Reply) -> Result<(), String> {
        if let Reply::Queued(_) = reply {
            return if self.pending.contains_key(&id) { Ok(()) } else { Err(format!("{id} queued after its end")) };
        }
        let ask = self.pending.remove(&id).ok_or_else(|| format!("a second answer to {id}: {reply:?}"))?;
        match (ask, reply) {
            (Ask::Lock { name, .. }, Reply::Granted(grant)) => self.hold(name, &grant),
            (Ask::Many { names, .. }, Reply::GrantedMany(grants)) => {
                names.into_iter().zip(&grants).for_each(|(name, grant)| self.hold(name, grant));
            }
            (Ask::Convert { lock, .. }, Reply::Granted(grant)) => {
                if let Some(held) = self.held.get_mut(&lock) {
                    (held.claim, held.token) = (grant.claim, grant.token);
                }
            }
            (Ask::Cancel { .. }, Reply::Cancelled | Reply::Refused(_))
            | (Ask::Release { .. }, Reply::Released | Reply::Refused(_))
            | (_, Reply::Cancelled | Reply::Refused(_) | Reply::Done) => {}
            (ask, reply) => return Err(format!("{ask:?} was answered {reply:?}")),
        }
        Ok(())
    }

    fn hold(&mut self, name: usize, grant: &Grant) {
        self.keys += 1;
        self.held.insert(grant.lock, Held { name, claim: grant.claim, token: grant.token, key: self.keys });
    }
}

/// Calls `then` with what is said, borrowed as the node takes it.
pub(crate) fn with_message<T>(said: &Said, then: impl FnOnce(ClientMessage<'_>) -> T) -> T {
    match said {
        Said::Plain(message) => then(message.clone()),
        Said::Request(id, ask) => then(ClientMessage::Request { id: RequestId(*id), op: op(ask) }),
        Said::Claim(held) => {
            let claim = reclaim(NAMES[held.name], held.claim, held.token, LockId(held.key));
            then(ClientMessage::Reclaim { id: RequestId(1 << 63 | held.key), claim, sealed: None })
        }
    }
}

fn op(ask: &Ask) -> Op<'static> {
    match ask {
        Ask::Lock { name, claim, wait } => Op::Lock(request(NAMES[*name], *claim, *wait)),
        Ask::Many { names, claim, wait } => {
            Op::LockMany(names.iter().map(|name| request(NAMES[*name], *claim, *wait)).collect())
        }
        Ask::Convert { lock, claim } => convert(*lock, *claim),
        Ask::Release { lock } => Op::Release {
            release: lockstead_types::request::ReleaseRequest { lock: *lock, flags: Flags::FORCEUNLOCK, value: None },
            one_way: false,
        },
        Ask::Cancel { request } => Op::Cancel(Target::Request(RequestId(*request))),
        Ask::Sync => Op::Sync,
    }
}

pub(crate) fn is_down(from: Claim, to: Claim) -> bool {
    let vms = lockstead_types::tables::built_in("vms").expect("built in");
    matches!((from, to), (Claim::Mode(from), Claim::Mode(to)) if vms.is_down(from, to))
}
