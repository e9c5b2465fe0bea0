//! The sessions of a script, each a real client session.
//!
//! Answers and notices of a session arrive while others are spoken to; they are kept by the client until the barrier
//! after a line collects them. Of one session, answers are printed in the order of their requests and before notices: a
//! lock is granted before it blocks anybody.

use core::time::Duration;
use std::{collections::HashMap, io};

use lockstead::{
    Client, Error, Lease, Lost, Tried, Trouble,
    raw::{News, Notices, Pending, RawSession},
};
use lockstead_script::{Command, Event, People, Player, Step, Verb, player::DEFAULT_SPACE};
use lockstead_types::{
    GroupId, NodeId, Refusal, RequestId, SessionId,
    name::escape,
    reply::{Notice, Reply, Revoked},
    request::Op,
};

use crate::{
    args::{CONNECT_FOR, ConnectArgs},
    connect::{About, builder, explain},
    exit::{Exit, Failure},
};

/// How long a node may take to notice that a local session is gone.
const NOTICED_WITHIN: Duration = Duration::from_secs(10);

/// Something a session saw.
pub(crate) struct Seen {
    pub(crate) session: String,
    pub(crate) event: Event,
}

/// Every session of a script, in the order of their first use.
pub(crate) struct Cast {
    connect: ConnectArgs,
    actors: Vec<Actor>,
    /// A session that only looks; made when it is first needed.
    looker: Option<Client>,
}

/// A name of a script.
struct Actor {
    name: String,
    /// Where it begins, if not at the shell's own endpoints.
    on: Option<String>,
    /// The session, from its first use to its goodbye.
    life: Option<Life>,
    /// What it saw and was not printed yet.
    seen: Vec<Event>,
}

struct Life {
    raw: RawSession,
    notices: Notices,
    player: Player,
    /// Requests whose last answer has not been taken, in their order, under numbers of our own: one that is answered at
    /// once has none of the service's.
    pending: Vec<(RequestId, Pending)>,
    next: u64,
    local: bool,
}

impl Cast {
    pub(crate) fn new(connect: ConnectArgs) -> Cast {
        Cast { connect, actors: Vec::new(), looker: None }
    }

    /// Plays one line, without waiting for what it causes.
    ///
    /// # Errors
    /// The session could not be opened.
    pub(crate) async fn play(&mut self, command: &Command) -> Result<(), Failure> {
        let at = self.actor(&command.session);
        match &command.verb {
            Verb::Sleep(span) => tokio::time::sleep((*span).into()).await,
            Verb::Bye => self.bye(at).await?,
            Verb::On(endpoint) => self.on(at, endpoint).await?,
            Verb::Kill => {
                self.open(at).await?;
                self.kill(at).await?;
            }
            verb => {
                self.open(at).await?;
                self.act(at, verb).await?;
            }
        }
        Ok(())
    }

    /// Waits until everything that was caused so far has been received, and returns it: the issuer's first, then the
    /// others' by first use.
    ///
    /// # Errors
    /// A session cannot be spoken to any more, though it is not lost.
    pub(crate) async fn barrier(&mut self, issuer: &str) -> Result<Vec<Seen>, Failure> {
        // The issuer's own round trip shows that what it asked is done and that all news of it is on its way; one on each
        // other session, begun after that, shows that the news has come.
        for at in self.order(issuer) {
            if let Some(life) = &self.actors[at].life {
                life.sync().await?;
            }
        }
        Ok(self.collect(issuer))
    }

    /// What came without being waited for.
    pub(crate) fn look(&mut self) -> Vec<Seen> {
        self.collect("")
    }

    /// Ends every session in order.
    ///
    /// # Errors
    /// A node that cannot be spoken to any more.
    pub(crate) async fn close(&mut self) -> Result<(), Failure> {
        for at in 0..self.actors.len() {
            self.bye(at).await?;
        }
        Ok(())
    }

    fn actor(&mut self, name: &str) -> usize {
        self.actors.iter().position(|a| a.name == name).unwrap_or_else(|| {
            self.actors.push(Actor { name: name.to_owned(), on: None, life: None, seen: Vec::new() });
            self.actors.len() - 1
        })
    }

    fn order(&self, issuer: &str) -> Vec<usize> {
        let (first, rest): (Vec<usize>, Vec<usize>) =
            (0..self.actors.len()).partition(|at| self.actors[*at].name == issuer);
        first.into_iter().chain(rest).collect()
    }

    async fn open(&mut self, at: usize) -> Result<(), Failure> {
        let actor = &mut self.actors[at];
        if actor.life.is_none() {
            actor.life = Some(Life::open(&self.connect, actor.on.as_deref(), &actor.name).await?);
        }
        Ok(())
    }

    /// Where a session begins, or, of one that is open, where it goes.
    async fn on(&mut self, at: usize, endpoint: &str) -> Result<(), Failure> {
        let actor = &mut self.actors[at];
        let Some(life) = &actor.life else {
            actor.on = Some(endpoint.to_owned());
            return Ok(());
        };
        let why = match life.raw.move_to(endpoint).await {
            Ok(()) => return Ok(()),
            // It could not stay there, and goes on elsewhere.
            Err(Error::Connect { tried }) => {
                let why = tried.into_iter().find(|tried| is_at(tried, endpoint)).map(|tried| tried.why);
                actor.seen.push(Event::NotMoved { to: endpoint.to_owned(), why: not_there(why) });
                return Ok(());
            }
            Err(error) => reason(error)?,
        };
        actor.seen.push(Event::Refused { word: "on".to_owned(), why });
        Ok(())
    }

    async fn act(&mut self, at: usize, verb: &Verb) -> Result<(), Failure> {
        loop {
            let people = self.people();
            let actor = &mut self.actors[at];
            let Some(life) = &mut actor.life else { return Ok(()) };
            match life.player.plan(verb) {
                Step::Send(op, intent) => {
                    let op = retarget(*op, &life.pending);
                    let submitted = life.raw.submit(op);
                    let number = RequestId(life.next);
                    life.next += 1;
                    life.player.sent(number, intent);
                    match submitted {
                        Ok(pending) => life.pending.push((number, pending)),
                        Err(error) => {
                            let reply = Reply::Refused(reason(error)?);
                            actor.seen.extend(life.player.on_reply(number, reply, &people));
                        }
                    }
                    return Ok(());
                }
                // The round trip brings the first answer to everything asked before.
                Step::After(_) => {
                    life.sync().await?;
                    let events = life.collect(&people);
                    actor.seen.extend(events);
                }
                Step::Say(events) => {
                    actor.seen.extend(events);
                    return Ok(());
                }
                Step::Transport => return Ok(()),
            }
        }
    }

    /// Drops the connection. What was waited for is dropped with it.
    async fn kill(&mut self, at: usize) -> Result<(), Failure> {
        let actor = &mut self.actors[at];
        let Some(life) = &mut actor.life else { return Ok(()) };
        if life.player.is_lost() {
            actor.seen.push(Event::Refused { word: "kill".to_owned(), why: Refusal::Lost });
            return Ok(());
        }
        life.raw.kill();
        life.pending.clear();
        actor.seen.extend(life.player.on_lost());
        let (session, local) = (life.raw.session_id(), life.local);
        if local { self.wait_until_gone(session).await } else { Ok(()) }
    }

    /// A node sees the end of a Unix socket when it looks at it next; only its list of sessions tells when it has.
    async fn wait_until_gone(&mut self, session: SessionId) -> Result<(), Failure> {
        if self.looker.is_none() {
            let client = builder(&self.connect, CONNECT_FOR).purpose("looks for the shell").connect().await;
            self.looker = Some(client.map_err(|error| explain(error, &About::Service))?);
        }
        let Some(looker) = &self.looker else { return Ok(()) };
        let gone = async {
            while looker.sessions().await?.iter().any(|row| row.session == session) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            Ok(())
        };
        match tokio::time::timeout(NOTICED_WITHIN, gone).await {
            Ok(done) => done.map_err(|error| explain(error, &About::Service)),
            Err(_) => Err(Exit::Failed.because("the node does not notice that a local session is gone")),
        }
    }

    async fn bye(&mut self, at: usize) -> Result<(), Failure> {
        let Some(Life { raw, notices, pending, player, .. }) = self.actors[at].life.take() else { return Ok(()) };
        // A goodbye withdraws what waits; cancelling each request first would only be more to say.
        let closed = if player.is_lost() { Ok(()) } else { raw.close().await };
        drop((notices, pending));
        match closed {
            Ok(()) | Err(Error::Lost(_)) => Ok(()),
            Err(error) => Err(explain(error, &About::Service)),
        }
    }

    fn collect(&mut self, issuer: &str) -> Vec<Seen> {
        let people = self.people();
        let mut all = Vec::new();
        for at in self.order(issuer) {
            let Actor { name, life, seen, .. } = &mut self.actors[at];
            if let Some(life) = life {
                seen.extend(life.collect(&people));
            }
            all.extend(seen.drain(..).map(|event| Seen { session: name.clone(), event }));
        }
        all
    }

    fn people(&self) -> Names {
        let mut names = Names::default();
        for (actor, life) in self.actors.iter().filter_map(|a| Some((a, a.life.as_ref()?))) {
            names.sessions.insert(life.raw.session_id(), actor.name.clone());
            names.groups.extend(life.player.groups().map(|(id, name)| (id, escape(name))));
        }
        names
    }
}

impl Life {
    async fn open(connect: &ConnectArgs, on: Option<&str>, name: &str) -> Result<Life, Failure> {
        let failed = |error: Error| explain(error, &About::Service);
        let builder = builder(connect, CONNECT_FOR).purpose(name);
        let builder = match on {
            None => builder,
            // The other nodes stay within reach.
            Some(on) if connect.are_several() => builder.prefer(on),
            Some(on) => builder.endpoints(on),
        };
        let client = builder.connect().await.map_err(failed)?;
        let raw = client.raw();
        let notices = raw.notices();
        // Of several nodes the one that answers need not be the master of anything.
        let node = if connect.are_several() { None } else { Some(client.status().await.map_err(failed)?.node) };
        let local = raw.fd().is_some();
        let player = default_player(&raw, node).await?;
        Ok(Life { raw, notices, player, pending: Vec::new(), next: 1, local })
    }

    /// One round trip. A session that is lost has nothing more to wait for.
    async fn sync(&self) -> Result<(), Failure> {
        if self.player.is_lost() {
            return Ok(());
        }
        let mut pending = match self.raw.submit(Op::Sync) {
            Ok(pending) => pending,
            Err(error) => return reason(error).map(|_| ()),
        };
        while pending.next().await.is_some() {}
        Ok(())
    }

    /// Everything that has come.
    fn collect(&mut self, people: &dyn People) -> Vec<Event> {
        if self.player.is_lost() {
            return Vec::new();
        }
        let lost = self.raw.state() == Lease::Lost;
        let mut events = Vec::new();
        let mut cx = core::task::Context::from_waker(core::task::Waker::noop());
        let player = &mut self.player;
        self.pending.retain_mut(|(number, pending)| {
            loop {
                match pending.poll_next(&mut cx) {
                    // The end of the session says it for all of them.
                    core::task::Poll::Ready(Some(Reply::Refused(Refusal::Lost))) if lost => return false,
                    core::task::Poll::Ready(Some(reply)) => {
                        let last = !matches!(reply, Reply::Queued(_));
                        events.extend(player.on_reply(*number, reply, people));
                        if last {
                            return false;
                        }
                    }
                    core::task::Poll::Ready(None) => return false,
                    core::task::Poll::Pending => return true,
                }
            }
        });
        while let Some(news) = self.notices.try_next() {
            events.extend(match news {
                News::Notice(notice) => player.on_notice(&notice),
                News::LockLost { lock, why } => player.on_notice(&Notice::Revoked { lock, why: revoked(why) }),
                News::Lease(_) => Vec::new(),
            });
        }
        // After what had come before: a grant that was not printed yet was one.
        if lost {
            self.pending.clear();
            events.extend(player.on_lost());
        }
        events
    }
}

async fn default_player(raw: &RawSession, node: Option<NodeId>) -> Result<Player, Failure> {
    let broken = || Exit::Failed.because("the node does not describe its default lockspace");
    let mut pending = raw.submit(Op::SpaceOpen { name: DEFAULT_SPACE }).map_err(|e| explain(e, &About::Service))?;
    match pending.next().await {
        Some(Reply::Space(info)) => Player::new(node, &info).map_err(|_| broken()),
        Some(Reply::Refused(why)) => Err(explain(Error::Refused(why), &About::Space(DEFAULT_SPACE))),
        _ => Err(broken()),
    }
}

/// A player names the request to cancel by the number we gave it; the service has its own.
fn retarget<'a>(op: Op<'a>, pending: &[(RequestId, Pending)]) -> Op<'a> {
    use lockstead_types::request::Target;
    match op {
        Op::Cancel(Target::Request(ours)) => {
            let theirs = pending.iter().find(|(number, _)| *number == ours).and_then(|(_, pending)| pending.request());
            Op::Cancel(Target::Request(theirs.unwrap_or_default()))
        }
        other => other,
    }
}

/// What the client itself says no to is shown like a refusal of the service.
fn reason(error: Error) -> Result<Refusal, Failure> {
    match error {
        Error::Refused(why) => Ok(why),
        Error::Lost(_) => Ok(Refusal::Lost),
        other => Err(explain(other, &About::Service)),
    }
}

/// Whether that try was at the endpoint, as somebody wrote it.
fn is_at(tried: &Tried, endpoint: &str) -> bool {
    let written = endpoint.trim();
    tried.endpoint == written.strip_prefix("tcp://").unwrap_or(written)
}

/// Why a session is not at an endpoint.
fn not_there(why: Option<Trouble>) -> String {
    match why {
        Some(Trouble::Io(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            "nobody listens there".to_owned()
        }
        Some(Trouble::Io(error)) => format!("cannot connect: {error}"),
        Some(why) => why.to_string(),
        None => "the session could not stay there".to_owned(),
    }
}

fn revoked(why: Lost) -> Revoked {
    match why {
        Lost::Revoked(why) => why,
        // After a restart the node gave it to another, or knows nothing of it.
        _ => Revoked::Superseded,
    }
}

#[derive(Default)]
struct Names {
    sessions: HashMap<SessionId, String>,
    groups: HashMap<GroupId, String>,
}

impl People for Names {
    fn session(&self, session: SessionId) -> Option<String> {
        self.sessions.get(&session).cloned()
    }

    fn group(&self, group: GroupId) -> Option<String> {
        self.groups.get(&group).cloned()
    }
}
