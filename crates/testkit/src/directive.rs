//! What a scenario may do besides script lines: set the stage, break things, act as an operator, look.

use lockstead_script::{parse_duration, show::claim_text};
use lockstead_types::{
    Limits, ModeTable, Span,
    hierarchy::{Escalate, Escalation, Hierarchy},
    message::Rejection,
    request::Claim,
    space::{DeadlockPolicy, ModeChoice, QueuePolicy, SpaceSpec, VictimPolicy},
    transaction::Discipline,
};

/// A line of a scenario that is no script line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Directive {
    /// `new`: another node, with default limits, without sessions or data.
    New,
    /// `limits NAME=N ...`: before anything else; times are durations.
    Limits(Vec<(String, String)>),
    /// `space NAME [modes=T] [policy=vms|fair] [overtakes=N] [ageing=DUR] [deadlock=P] [victim=P] [discipline=D] [value-bytes=N]
    /// [hierarchy=A/B/...] [escalate=off|auto|LEVEL] [escalate-at=N] [escalate-retry=N]`.
    Space(Box<SpaceSpec>),
    /// `drop NAME [force]`.
    Drop {
        /// The lockspace.
        name: String,
        /// Though locks are held.
        force: bool,
    },
    /// `remote SESSION ...`: their connections are TCP connections, whose end proves nothing.
    Remote(Vec<String>),
    /// `within SESSION OUTER`: it will say that it runs within the session of another.
    Within(String, String),
    /// `ttl SESSION DUR`: the lease it will ask for.
    Ttl(String, Span),
    /// `open SESSION`: opens it, though it has nothing to do yet.
    Open(String),
    /// `disconnect SESSION`: its connection breaks.
    Disconnect(String),
    /// `attach SESSION`: it connects again; after a restart it claims its locks.
    Attach(String),
    /// `cut SESSION WORD`: the shell gives its connection up, as for bytes that are no frame.
    Cut(String, Rejection),
    /// `mute SESSION`: its process stops; it renews its lease no more.
    Mute(String),
    /// `unmute SESSION`: its process goes on.
    Unmute(String),
    /// `restart`: the node stops dead and starts again with its data directory.
    Restart,
    /// `stop`: the node is about to stop in order.
    Stop,
    /// `force NAME of SESSION [reason=TEXT]`: an operator takes the lock away.
    Force {
        /// The resource.
        name: Vec<u8>,
        /// Whose lock.
        of: String,
        /// Why.
        reason: String,
    },
    /// `end SESSION [reason=TEXT]`: an operator ends it.
    End {
        /// Which.
        session: String,
        /// Why.
        reason: String,
    },
    /// `waits`, `deadlocks`, `sessions`, `status`: look.
    Look(Look),
}

/// What to look at.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Look {
    /// Who waits for whom.
    Waits,
    /// The deadlocks that were found.
    Deadlocks,
    /// The sessions there are.
    Sessions,
    /// Counts.
    Status,
}

impl Directive {
    /// The directive of a line without comment.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(line: &str) -> Result<Directive, String> {
        let words: Vec<&str> = line.split_whitespace().take_while(|w| !w.starts_with('#')).collect();
        let Some((first, args)) = words.split_first() else { return Err("a directive is missing".to_owned()) };
        let one = || match args {
            [session] => Ok((*session).to_owned()),
            _ => Err(format!("`{first}` takes one session")),
        };
        Ok(match *first {
            "new" => Directive::New,
            "limits" => Directive::Limits(args.iter().map(|w| pair(w)).collect::<Result<_, _>>()?),
            "space" => Directive::Space(Box::new(space(args)?)),
            "drop" => match args {
                [name] => Directive::Drop { name: (*name).to_owned(), force: false },
                [name, "force"] => Directive::Drop { name: (*name).to_owned(), force: true },
                _ => return Err("`drop NAME [force]`".to_owned()),
            },
            "remote" => Directive::Remote(args.iter().map(|w| (*w).to_owned()).collect()),
            "ttl" => match args {
                [session, span] => Directive::Ttl((*session).to_owned(), duration(span)?),
                _ => return Err("`ttl SESSION DUR`".to_owned()),
            },
            "within" => match args {
                [session, outer] => Directive::Within((*session).to_owned(), (*outer).to_owned()),
                _ => return Err("`within SESSION OUTER`".to_owned()),
            },
            "open" => Directive::Open(one()?),
            "disconnect" => Directive::Disconnect(one()?),
            "attach" => Directive::Attach(one()?),
            "cut" => match args {
                [session, why] => Directive::Cut((*session).to_owned(), rejection(why)?),
                _ => return Err("`cut SESSION protocol|frame-too-long|slow-reader|idle|credit`".to_owned()),
            },
            "mute" => Directive::Mute(one()?),
            "unmute" => Directive::Unmute(one()?),
            "restart" => Directive::Restart,
            "stop" => Directive::Stop,
            "force" => match args {
                [name, "of", session, rest @ ..] => Directive::Force {
                    name: lockstead_types::name::unescape(name).ok_or("a broken escape")?,
                    of: (*session).to_owned(),
                    reason: reason(rest)?,
                },
                _ => return Err("`force NAME of SESSION [reason=TEXT]`".to_owned()),
            },
            "end" => match args {
                [session, rest @ ..] => Directive::End { session: (*session).to_owned(), reason: reason(rest)? },
                [] => return Err("`end SESSION [reason=TEXT]`".to_owned()),
            },
            "waits" => Directive::Look(Look::Waits),
            "deadlocks" => Directive::Look(Look::Deadlocks),
            "sessions" => Directive::Look(Look::Sessions),
            "status" => Directive::Look(Look::Status),
            other => return Err(format!("`{other}` is no directive, and a script line starts with `SESSION:`")),
        })
    }
}

/// Sets a bound by its name.
///
/// # Errors
/// There is none of that name, or the number is none.
pub fn set_limit(limits: &mut Limits, name: &str, value: &str) -> Result<(), String> {
    let number = || value.parse::<u32>().map_err(|_| format!("`{value}` is no number"));
    match name {
        "name-bytes" => limits.name_bytes = number()?,
        "value-bytes" => limits.value_bytes = number()?,
        "resources" => limits.resources = number()?,
        "locks" => limits.locks = number()?,
        "locks-per-session" => limits.locks_per_session = number()?,
        "waiters-per-resource" => limits.waiters_per_resource = number()?,
        "permits" => limits.permits = number()?,
        "names-per-request" => limits.names_per_request = number()?,
        "sessions" => limits.sessions = number()?,
        "groups" => limits.groups = number()?,
        "members-per-group" => limits.members_per_group = number()?,
        "spaces" => limits.spaces = number()?,
        "orphans" => limits.orphans = number()?,
        "deadlock-reports" => limits.deadlock_reports = number()?,
        "deadlock-edges" => limits.deadlock_edges = number()?,
        "in-flight" => limits.in_flight = number()?,
        "watches" => limits.watches = number()?,
        "rows-per-answer" => limits.rows_per_answer = number()?,
        "meta-bytes" => limits.meta_bytes = number()?,
        "connections" => limits.connections = number()?,
        "ttl-min" => limits.ttl_min = duration(value)?,
        "ttl-max" => limits.ttl_max = duration(value)?,
        _ => return Err(format!("there is no bound `{name}` that a node in memory keeps")),
    }
    Ok(())
}

fn space(args: &[&str]) -> Result<SpaceSpec, String> {
    let (name, rest) = args.split_first().ok_or("`space NAME ...`")?;
    let mut spec = SpaceSpec::named(name);
    let (mut overtakes, mut ageing) = (8, Span::from_secs(1));
    let (mut escalate, mut at, mut retry) = ("off".to_owned(), Escalate::AUTO.at, Escalate::AUTO.retry);
    for word in rest {
        let (key, value) = pair(word)?;
        match (key.as_str(), value.as_str()) {
            ("modes", table) => spec.modes = ModeChoice::BuiltIn(table.to_owned()),
            ("policy", "vms") => spec.policy = QueuePolicy::Vms,
            ("policy", "fair") => spec.policy = QueuePolicy::FAIR,
            ("overtakes", n) => overtakes = n.parse().map_err(|_| format!("`{n}` is no number"))?,
            ("ageing", span) => ageing = duration(span)?,
            ("discipline", word) => {
                spec.discipline = Discipline::parse(word).ok_or_else(|| format!("no discipline `{word}`"))?;
            }
            ("deadlock", "detect") => spec.deadlock = DeadlockPolicy::Detect,
            ("deadlock", "timeout") => spec.deadlock = DeadlockPolicy::Timeout,
            ("deadlock", "no-wait") => spec.deadlock = DeadlockPolicy::NoWait,
            ("deadlock", "wait-die") => spec.deadlock = DeadlockPolicy::WaitDie,
            ("deadlock", "wound-wait") => spec.deadlock = DeadlockPolicy::WoundWait,
            ("victim", "requester") => spec.victim = VictimPolicy::Requester,
            ("victim", "youngest") => spec.victim = VictimPolicy::Youngest,
            ("victim", "fewest-locks") => spec.victim = VictimPolicy::FewestLocks,
            ("victim", "lowest-priority") => spec.victim = VictimPolicy::LowestPriority,
            ("extents", "yes") => spec.extents = true,
            ("levels", n) => spec.levels = n.parse().map_err(|_| format!("`{n}` is no number"))?,
            ("hierarchy", levels) => {
                let tree = Hierarchy { levels: Hierarchy::parse_levels(levels), escalation: Escalation::Off };
                spec.levels = tree.slot_levels();
                spec.hierarchy = Some(Box::new(tree));
            }
            ("escalate", word) => escalate = word.to_owned(),
            ("escalate-at", n) => at = n.parse().map_err(|_| format!("`{n}` is no number"))?,
            ("escalate-retry", n) => retry = n.parse().map_err(|_| format!("`{n}` is no number"))?,
            ("value-bytes", n) => spec.value_bytes = n.parse().map_err(|_| format!("`{n}` is no number"))?,
            _ => return Err(format!("a lockspace has no `{word}`")),
        }
    }
    if let QueuePolicy::Fair { .. } = spec.policy {
        spec.policy = QueuePolicy::Fair { overtakes, ageing };
    }
    if let Some(tree) = &mut spec.hierarchy {
        tree.escalation = tree.escalation_of(&escalate, at, retry).map_err(|error| error.to_string())?;
    }
    Ok(spec)
}

fn rejection(word: &str) -> Result<Rejection, String> {
    match word {
        "protocol" => Ok(Rejection::Protocol),
        "frame-too-long" => Ok(Rejection::FrameTooLong),
        "slow-reader" => Ok(Rejection::SlowReader),
        "idle" => Ok(Rejection::Idle),
        "credit" => Ok(Rejection::Credit),
        _ => Err(format!("`{word}` is no reason to cut a connection")),
    }
}

fn reason(rest: &[&str]) -> Result<String, String> {
    match rest {
        [] => Ok("scenario".to_owned()),
        [word] => word.strip_prefix("reason=").map(str::to_owned).ok_or_else(|| format!("`{word}`: `reason=TEXT`")),
        _ => Err("one word, `reason=TEXT`".to_owned()),
    }
}

fn pair(word: &str) -> Result<(String, String), String> {
    let (key, value) = word.split_once('=').ok_or_else(|| format!("`{word}` is not `NAME=VALUE`"))?;
    Ok((key.to_owned(), value.to_owned()))
}

fn duration(text: &str) -> Result<Span, String> {
    parse_duration(text).ok_or_else(|| format!("`{text}` is no duration: 500ms, 2s, 1m"))
}

/// A claim as a scenario prints it. The rows of a query do not say which mode table is theirs, so modes of lockspaces with
/// another table than `vms` are printed by number.
pub(crate) fn vms_claim(vms: Option<&ModeTable>, claim: Claim) -> String {
    match (vms, claim) {
        (Some(modes), claim) => claim_text(modes, claim),
        (None, Claim::Mode(mode)) => mode.0.to_string(),
        (None, Claim::Permits { take, of }) => format!("permits={take}/{of}"),
    }
}
