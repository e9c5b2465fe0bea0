//! The way out where most voters of a cluster are lost for good: changes the data directory of a stopped survivor.
//!
//! A crate interface of its own, apart from a running server, because it works only while none runs on that directory.

use core::{fmt, time::Duration};
use std::{collections::BTreeSet, io, path::Path, thread};

use lockstead_membership::{Inspection, Timing};
use lockstead_types::NodeId;

use crate::data::{self, DataError};

/// What a stopped node's directory says of the membership group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Of its last entry: of several survivors, the one with the greatest term and index has lost the least.
    pub term: u64,
    /// Of its last entry.
    pub index: u64,
    /// Who votes.
    pub voters: BTreeSet<NodeId>,
    /// Who else is in the group.
    pub learners: BTreeSet<NodeId>,
}

/// Why a directory cannot be looked into or changed.
#[derive(Debug)]
pub enum RescueError {
    /// It is no member's, or a server uses it.
    Data(DataError),
    /// What the group keeps there cannot be read or written.
    Group(io::Error),
}

impl fmt::Display for RescueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RescueError::Data(error) => error.fmt(f),
            RescueError::Group(error) => write!(f, "the membership group's data: {error}"),
        }
    }
}

impl core::error::Error for RescueError {}

/// Looks into the directory of a stopped member.
///
/// # Errors
/// [`RescueError`].
pub fn look(path: &Path, node: NodeId) -> Result<Found, RescueError> {
    let opened = open(path, node)?;
    let Inspection { term, index, voters, learners, .. } =
        lockstead_membership::inspect(&opened.group).map_err(RescueError::Group)?;
    Ok(Found { term, index, voters, learners })
}

/// Makes the stopped member the only voter of its group, with the other survivors to follow it. Only with all other members
/// fenced. Waits as long as authority of a node that was fenced a moment ago may last.
///
/// # Errors
/// [`RescueError`]; nothing was changed.
pub fn force_quorum(path: &Path, node: NodeId, survivors: &[NodeId], reason: &str) -> Result<(), RescueError> {
    let mut opened = open(path, node)?;
    let others: Vec<String> = survivors.iter().map(|node| node.0.to_string()).collect();
    let text =
        format!("quorum forced: node {} votes alone, survivors [{}], reason: {reason}", node.0, others.join(" "));
    opened.audit.append(&text).map_err(DataError::io("write", &path.join("audit.log"))).map_err(RescueError::Data)?;
    thread::sleep(Duration::from(Timing::default().steward.t_auth));
    let survivors = survivors.iter().copied().collect();
    lockstead_membership::force_quorum(&opened.group, node, &survivors).map_err(RescueError::Group)
}

fn open(path: &Path, node: NodeId) -> Result<data::MemberDir, RescueError> {
    if !data::is_member(path) {
        let why = format!("{} is no data directory of a member of a cluster", path.display());
        return Err(RescueError::Data(DataError::Refused(why)));
    }
    data::open_member(path, node.0).map_err(RescueError::Data)
}
