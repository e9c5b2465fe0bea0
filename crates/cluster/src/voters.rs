//! Who should vote in the membership group.

use alloc::{collections::BTreeSet, vec::Vec};

use lockstead_types::NodeId;

use crate::state::{MemberState, State};

/// Voters at most: more make each commit slower and survive nothing that five do not, once the dead are replaced.
pub const VOTERS: usize = 5;

impl State {
    /// [MEMBER-8] An odd number of members that are up, at most five, the lowest numbers first. Of an even number a witness makes an odd
    /// one, or else one of them does not vote: an even group survives no more deaths than the odd one below it. Empty
    /// where nobody is up: the voters stay as they are.
    #[must_use]
    pub fn voters_wanted(&self) -> BTreeSet<NodeId> {
        let up = |witness: bool| {
            self.members
                .iter()
                .filter(move |(_, member)| member.state == MemberState::Up && (member.weight == 0) == witness)
                .map(|(node, _)| *node)
        };
        let mut voters: Vec<NodeId> = up(false).take(VOTERS).collect();
        if voters.len().is_multiple_of(2) {
            match up(true).next() {
                Some(witness) => voters.push(witness),
                None => drop(voters.pop()),
            }
        }
        voters.into_iter().collect()
    }
}
