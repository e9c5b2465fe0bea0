//! What `show NAME` prints: the three queues of a resource, without anything that differs from run to run but tokens.

use lockstead_types::{
    GroupId, ModeTable, NodeId, SessionId, Token, name,
    reply::Value,
    report::{Holder, LeftOut, LockRow, ResourceDetail},
    request::Claim,
};

use crate::event::Shown;

/// Knows the names a script gave to sessions and groups.
pub trait People {
    /// The name of a session of the script.
    fn session(&self, session: SessionId) -> Option<String>;
    /// The name of a group some session of the script is attached to.
    fn group(&self, group: GroupId) -> Option<String>;
}

/// A resource as it is shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Queues {
    /// The resource.
    pub name: Box<[u8]>,
    /// The node that decides for it; unknown where it has no lock.
    pub master: Option<NodeId>,
    /// Its value block, where one was written.
    pub value: Option<Value>,
    /// The locks: granted, then converting, then waiting, each in its order.
    pub rows: Vec<QueueRow>,
    /// How many more there are of each queue than the node's answer holds.
    pub left_out: LeftOut,
}

/// A lock as it is shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QueueRow {
    /// Which queue it is in.
    pub queue: Queue,
    /// The part of the resource it is of; empty where it is of the whole.
    pub extent: String,
    /// What it holds, as text.
    pub held: Option<String>,
    /// What it waits for, as text.
    pub wanted: Option<String>,
    /// The token it holds.
    pub token: Token,
    /// Whose it is.
    pub who: String,
}

/// The three queues.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Queue {
    /// Granted.
    Granted,
    /// Granted, and converting to something else.
    Converting,
    /// New requests.
    Waiting,
}

impl Queue {
    /// The word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Queue::Granted => "granted",
            Queue::Converting => "converting",
            Queue::Waiting => "waiting",
        }
    }
}

impl Queues {
    /// What a node said of a resource; `None` where no lock is on it.
    pub(crate) fn new(
        name: &[u8],
        detail: Option<&ResourceDetail>,
        node: Option<NodeId>,
        modes: &ModeTable,
        people: &dyn People,
    ) -> Queues {
        let Some(detail) = detail else {
            return Queues {
                name: name.into(),
                master: node,
                value: None,
                rows: Vec::new(),
                left_out: LeftOut::default(),
            };
        };
        let row = |queue, row: &LockRow| QueueRow {
            queue,
            extent: row.extent.clone(),
            held: row.held.map(|claim| claim_text(modes, claim)),
            wanted: row.wanted.map(|claim| claim_text(modes, claim)),
            token: row.token,
            who: who(&row.holder, people),
        };
        let queues = [
            (Queue::Granted, &detail.granted),
            (Queue::Converting, &detail.converting),
            (Queue::Waiting, &detail.waiting),
        ];
        let rows = queues.into_iter().flat_map(|(queue, rows)| rows.iter().map(move |r| (queue, r)));
        Queues {
            name: detail.name.clone(),
            master: Some(detail.master),
            value: detail.value.clone(),
            rows: rows.map(|(queue, r)| row(queue, r)).collect(),
            left_out: detail.left_out,
        }
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        let master = self.master.map_or_else(|| "-".to_owned(), |node| node.0.to_string());
        let value = self.value.as_ref().map_or_else(String::new, |value| format!(" value={}", Shown(value)));
        let mut lines = vec![format!("{} master={master}{value}", name::escape(&self.name))];
        lines.extend(self.rows.iter().map(QueueRow::line));
        let LeftOut { granted, converting, waiting } = self.left_out;
        let rest = [(Queue::Granted, granted), (Queue::Converting, converting), (Queue::Waiting, waiting)];
        let rest = rest.into_iter().filter(|(_, count)| *count > 0);
        lines.extend(rest.map(|(queue, count)| format!("  ... {count} more {} not shown", queue.word())));
        lines
    }
}

impl QueueRow {
    fn line(&self) -> String {
        let claims: Vec<&str> = [&self.held, &self.wanted].into_iter().flatten().map(String::as_str).collect();
        let token = if self.token == Token::NONE { String::new() } else { format!(" token={}", self.token) };
        let part = if self.extent.is_empty() { String::new() } else { format!(" {}", self.extent) };
        format!("  {} {}{part}{token} {}", self.queue.word(), claims.join(" to "), self.who)
    }
}

/// A mode by its name, or `permits=TAKE/OF`.
#[must_use]
pub fn claim_text(modes: &ModeTable, claim: Claim) -> String {
    match claim {
        Claim::Mode(mode) => modes.mode_name(mode).to_owned(),
        Claim::Permits { take, of } => format!("permits={take}/{of}"),
    }
}

fn who(holder: &Holder, people: &dyn People) -> String {
    let owner = match (holder.group, holder.session) {
        (Some(group), _) => match people.group(group) {
            Some(name) => format!("group:{name}"),
            None => format!("group:{}", group.0),
        },
        (None, Some(session)) => people.session(session).unwrap_or_else(|| stranger(holder)),
        (None, None) => "orphan".to_owned(),
    };
    if holder.tag == 0 { owner } else { format!("{owner} as={}", holder.tag) }
}

/// A session that is none of the script's, by what it says of itself.
fn stranger(holder: &Holder) -> String {
    let meta = &holder.meta;
    name::escape(format!("{}@{}:{}", meta.program, meta.host, meta.pid).as_bytes())
}
