//! Who the members are: asked over the peer ports of others by a node that waits in vain to be taken in, so that it can say
//! when it is no member any more. Its own log may not tell: nobody sends it more once it was removed. A question is
//! [`MEMBERS_MAGIC`] alone, the answer lines of text, then the connection is closed.
//!
//! ```text
//! lockstead members certain yes
//! 1 00112233445566778899aabbccddeeff
//! 2 ffeeddccbbaa99887766554433221100
//! end
//! ```
//!
//! `certain` says whether a majority stands behind the answer; without one it says nothing of who was let in or removed since.

use core::time::Duration;
use std::io::{self, Read as _, Write as _};

use lockstead_types::NodeId;

use super::{Cluster, Me, who};
use crate::clock;

/// What a question consists of.
pub(crate) const MEMBERS_MAGIC: [u8; 8] = *b"\xBDmbr\0\0\0\x01";
/// Bytes of the longest answer.
const ANSWER_BYTES: u64 = 65_536;

/// How long a look at the node may take.
const LOOK_FOR: Duration = Duration::from_millis(100);

/// What this node is to a member that was asked.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Standing {
    /// A member.
    Member,
    /// No member, and nobody else has its number.
    Removed,
    /// Other data was let in under its number.
    Replaced,
}

/// Asks others, one after another, what this node is to them, until one is certain. Gives that one with its answer.
pub(crate) fn standing(me: &Me, others: &[(NodeId, String)]) -> Option<(NodeId, Standing)> {
    others.iter().find_map(|(node, address)| Some((*node, judge(me, &ask(address).ok()?)?)))
}

fn ask(address: &str) -> io::Result<String> {
    let mut stream = who::connect(address, who::ASK_FOR)?;
    stream.set_read_timeout(Some(who::ASK_FOR))?;
    stream.set_write_timeout(Some(who::ASK_FOR))?;
    stream.write_all(&MEMBERS_MAGIC)?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES).read_to_string(&mut answer)?;
    Ok(answer)
}

/// The answer of this node.
pub(crate) fn answer(cluster: &Cluster) -> String {
    let Some(server) = cluster.server() else { return text(false, []) };
    // A node that is stuck still votes: the peer port must not hang with it.
    let Some(core) = server.core.try_lock_for(LOOK_FOR) else { return text(false, []) };
    let certain = clock::now() < core.node.authority();
    let members = core.node.cluster_state().into_iter().flat_map(|state| &state.members);
    text(certain, members.map(|(node, member)| (*node, member.identity)))
}

fn text(certain: bool, members: impl IntoIterator<Item = (NodeId, u128)>) -> String {
    let certain = if certain { "yes" } else { "no" };
    let members = members.into_iter().map(|(node, identity)| format!("{} {identity:032x}\n", node.0));
    format!("lockstead members certain {certain}\n{}end\n", members.collect::<String>())
}

/// What an answer makes of this node; nothing where it is not certain or not whole.
fn judge(me: &Me, answer: &str) -> Option<Standing> {
    let members = answer.strip_prefix("lockstead members certain yes\n")?.strip_suffix("end\n")?;
    let mut standing = Standing::Removed;
    for line in members.lines() {
        let (node, identity) = line.split_once(' ')?;
        let (node, identity) = (node.parse::<u16>().ok()?, u128::from_str_radix(identity, 16).ok()?);
        if NodeId(node) == me.node {
            standing = if identity == me.identity { Standing::Member } else { Standing::Replaced };
        }
    }
    Some(standing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_and_certain_answer_counts() {
        let me = |node| Me {
            node: NodeId(node),
            identity: 0xAB,
            peer_address: String::new(),
            client_address: String::new(),
            weight: 100,
        };
        let members = [(NodeId(1), 0xAB), (NodeId(2), 0xCD)];
        let whole = text(true, members);
        assert_eq!(judge(&me(1), &whole), Some(Standing::Member));
        assert_eq!(judge(&me(2), &whole), Some(Standing::Replaced));
        assert_eq!(judge(&me(3), &whole), Some(Standing::Removed));
        assert_eq!(judge(&me(3), &text(false, members)), None);
        for end in 0..whole.len() {
            assert_eq!(judge(&me(3), &whole[..end]), None, "cut at {end}");
        }
    }
}
