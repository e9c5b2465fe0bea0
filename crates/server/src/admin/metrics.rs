//! `/metrics`: Prometheus text. No name of a lock, a resource or a client is a label: there is no bound on those, and they
//! are not for everybody's eyes.

use core::fmt::Write;
use std::fs;

use core::sync::atomic::Ordering::Relaxed;
use lockstead_cluster::MemberState;
use lockstead_node::Node;
use lockstead_types::report::NodeStatus;

use crate::{
    clock,
    cluster::Cluster,
    shared::{Phase, Shared},
    stats::{BATCH_BOUNDS, Stats},
};

/// Everything there is to know, as text.
pub(crate) fn text(shared: &Shared) -> String {
    let (status, ready, member) = {
        let core = shared.core.lock();
        let ready = core.node.is_ready() && core.halted().is_none();
        (core.node.status(clock::now()), ready, shared.cluster.as_deref().and_then(|c| Member::look(c, &core.node)))
    };
    let mut out = String::with_capacity(16_384);
    let serving = ready && shared.phase() == Phase::Serving;
    gauge(&mut out, "ready", "Whether locks are granted.", u64::from(serving));
    gauges(&mut out, &status);
    counters(&mut out, &status);
    if let Some(member) = member {
        member.gauges(&mut out);
    }
    gauge(&mut out, "connections", "Connections that exist.", shared.connections.load(Relaxed) as u64);
    gauge(&mut out, "event_loops", "Event loops.", shared.loops.len() as u64);
    for (name, help, value) in Stats::sums(&shared.stats) {
        counter(&mut out, name, help.trim(), value);
    }
    batches(&mut out, &shared.stats);
    if let Some(open) = open_files() {
        // The customary name, without the prefix.
        line(&mut out, "# TYPE process_open_fds gauge", &[]);
        line(&mut out, "process_open_fds", &[open]);
    }
    out
}

fn gauges(out: &mut String, status: &NodeStatus) {
    let version = &status.version;
    line(out, "# HELP lockstead_info Version and number of the node.", &[]);
    line(out, "# TYPE lockstead_info gauge", &[]);
    line(out, &format!("lockstead_info{{version=\"{version}\",node=\"{}\"}}", status.node.0), &[1]);
    gauge(out, "epoch", "The present epoch; of a node alone, how often it started with its data.", status.epoch.into());
    gauge(out, "uptime_seconds", "How long the node has run.", status.uptime.as_millis() / 1_000);
    gauge(
        out,
        "frozen_ms",
        "For how long at most nothing new is granted after a restart.",
        status.frozen_for.as_millis(),
    );
    gauge(out, "sessions", "Sessions.", status.sessions.into());
    gauge(out, "groups", "Groups.", status.groups.into());
    gauge(out, "lockspaces", "Lockspaces.", status.spaces.into());
    gauge(out, "resources", "Resources with locks.", status.resources);
    gauge(out, "locks_granted", "Locks granted.", status.granted);
    gauge(out, "locks_converting", "Conversions in progress that wait.", status.converting);
    gauge(out, "locks_waiting", "New requests in progress that wait.", status.waiting);
    gauge(out, "locks_orphaned", "Granted locks whose session is gone.", status.orphans);
}

/// What a member of a cluster says besides.
struct Member {
    slots: usize,
    taking_over: usize,
    taking_over_ms: u64,
    up: usize,
    members: usize,
    sessions: usize,
    unlinked: usize,
    authority_ms: u64,
    leader: Option<u16>,
    voters: usize,
    voters_changing: bool,
    spare: usize,
    applied: u64,
}

impl Member {
    fn look(cluster: &Cluster, node: &Node) -> Option<Member> {
        let (state, now) = (node.cluster_state()?, clock::now());
        let group = cluster.with_membership(|group| group.status()).unwrap_or_default();
        let (taking_over, since) = node.recovering_slots();
        Some(Member {
            slots: state.slots_of(cluster.me.node).len(),
            taking_over,
            taking_over_ms: since.map_or(0, |since| now.since(since).as_millis()),
            up: state.members.values().filter(|member| member.state != MemberState::Down).count(),
            members: state.members.len(),
            sessions: state.sessions.len(),
            unlinked: node.peers_wanted().len(),
            authority_ms: node.authority().since(now).as_millis(),
            leader: group.leader.map(|node| node.0),
            voters: group.voters.len(),
            voters_changing: group.voters_changing,
            spare: group.spare,
            applied: group.applied,
        })
    }

    fn gauges(&self, out: &mut String) {
        let n = |count: usize| count as u64;
        gauge(out, "slots_mastered", "Slots of 4096 that this node is master of.", n(self.slots));
        gauge(out, "slots_taking_over", "Slots whose holders have not all reported yet.", n(self.taking_over));
        gauge(out, "taking_over_ms", "Since when the first of them waits.", self.taking_over_ms);
        gauge(out, "members", "Members of the cluster.", n(self.members));
        gauge(out, "members_up", "Members that take part.", n(self.up));
        gauge(out, "directory_sessions", "Sessions of the whole cluster.", n(self.sessions));
        gauge(out, "links_missing", "Members this node dials and has no link to.", n(self.unlinked));
        gauge(out, "authority_ms", "For how long this node may act without hearing from the group.", self.authority_ms);
        let leader = self.leader.unwrap_or(0);
        gauge(out, "group_leader", "The node that leads the membership group, 0 for none known.", leader.into());
        gauge(out, "group_voters", "Members that vote; more than half of them must be there.", n(self.voters));
        let changing = "Whether the former voters are needed as well, since others are about to vote.";
        gauge(out, "group_voters_changing", changing, self.voters_changing.into());
        gauge(out, "group_spare", "How many more voters may die, and a majority of them is left.", n(self.spare));
        gauge(out, "group_applied", "The newest entry of the members' log that this node has applied.", self.applied);
    }
}

/// The node's own counters. Those of a family become one metric with a label.
fn counters(out: &mut String, status: &NodeStatus) {
    let mut families = String::new();
    let (mut refused, mut requests, mut waits) = (Vec::new(), Vec::new(), Vec::new());
    for (name, value) in &status.counters {
        if let Some(reason) = name.strip_prefix("refused_") {
            refused.push((reason.replace('_', "-"), *value));
        } else if let Some(kind) = name.strip_prefix("requests_") {
            requests.push((kind.replace('_', "-"), *value));
        } else if name.starts_with("wait_") {
            waits.push((name.as_str(), *value));
        } else if name == "waits_in_progress" {
            gauge(out, name, "Requests and conversions that wait now.", *value);
        } else {
            counter(out, name, &name.replace('_', " "), *value);
        }
    }
    family(&mut families, "refused", "Requests refused, by reason.", "reason", &refused);
    family(&mut families, "requests", "Requests, by kind.", "kind", &requests);
    out.push_str(&families);
    wait_times(out, &waits);
}

/// How long waits that ended took.
fn wait_times(out: &mut String, rows: &[(&str, u64)]) {
    line(out, "# HELP lockstead_wait_seconds How long requests waited that wait no more.", &[]);
    line(out, "# TYPE lockstead_wait_seconds histogram", &[]);
    for (name, value) in rows {
        if let Some(bound) = name.strip_prefix("wait_le_").and_then(seconds) {
            line(out, &format!("lockstead_wait_seconds_bucket{{le=\"{bound}\"}}"), &[*value]);
        }
    }
    let find = |wanted: &str| rows.iter().find(|(name, _)| *name == wanted).map_or(0, |(_, value)| *value);
    let (count, micros) = (find("wait_count"), find("wait_sum_us"));
    line(out, "lockstead_wait_seconds_bucket{le=\"+Inf\"}", &[count]);
    let _ = writeln!(out, "lockstead_wait_seconds_sum {}.{:06}", micros / 1_000_000, micros % 1_000_000);
    line(out, "lockstead_wait_seconds_count", &[count]);
}

/// The bound of a bucket, such as `100us`, in seconds.
fn seconds(text: &str) -> Option<String> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let places = match unit {
        "us" => 6,
        "ms" => 3,
        "s" => 0,
        _ => return None,
    };
    let number: u64 = number.parse().ok()?;
    let one = 10u64.pow(places);
    let rest = format!("{:0width$}", number % one, width = places as usize);
    let rest = if places == 0 { "" } else { rest.trim_end_matches('0') };
    let whole = number / one;
    Some(if rest.is_empty() { whole.to_string() } else { format!("{whole}.{rest}") })
}

fn batches(out: &mut String, stats: &[Stats]) {
    line(out, "# HELP lockstead_turn_messages Messages handled in one turn of an event loop.", &[]);
    line(out, "# TYPE lockstead_turn_messages histogram", &[]);
    let counts = Stats::batches(stats);
    for (bound, count) in BATCH_BOUNDS.iter().zip(counts) {
        line(out, &format!("lockstead_turn_messages_bucket{{le=\"{bound}\"}}"), &[count]);
    }
    let total = counts.last().copied().unwrap_or(0);
    line(out, "lockstead_turn_messages_bucket{le=\"+Inf\"}", &[total]);
    let messages = Stats::sums(stats).into_iter().find(|(name, ..)| *name == "messages").map_or(0, |(.., sum)| sum);
    line(out, "lockstead_turn_messages_sum", &[messages]);
    line(out, "lockstead_turn_messages_count", &[total]);
}

fn gauge(out: &mut String, name: &str, help: &str, value: u64) {
    single(out, &format!("lockstead_{name}"), "gauge", help, value);
}

fn counter(out: &mut String, name: &str, help: &str, value: u64) {
    single(out, &format!("lockstead_{name}_total"), "counter", help, value);
}

fn single(out: &mut String, name: &str, kind: &str, help: &str, value: u64) {
    let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n");
}

fn family(out: &mut String, name: &str, help: &str, label: &str, rows: &[(String, u64)]) {
    let name = format!("lockstead_{name}_total");
    let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} counter\n");
    for (which, value) in rows {
        let _ = writeln!(out, "{name}{{{label}=\"{which}\"}} {value}");
    }
}

fn line(out: &mut String, text: &str, value: &[u64]) {
    out.push_str(text);
    for value in value {
        let _ = write!(out, " {value}");
    }
    out.push('\n');
}

/// File descriptors of this process; the look itself costs one.
fn open_files() -> Option<u64> {
    fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as u64)
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn bounds_in_seconds() {
        let of = |text| seconds(text).unwrap_or_default();
        assert_eq!(
            [of("100us"), of("1ms"), of("10ms"), of("1s"), of("1000s")],
            ["0.0001", "0.001", "0.01", "1", "1000"]
        );
        assert_eq!(of("1500ms"), "1.5");
        assert_eq!(of("ms"), "");
    }
}
