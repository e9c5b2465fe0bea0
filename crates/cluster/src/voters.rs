//! Who should vote in the membership group.

use alloc::{collections::BTreeSet, vec::Vec};

use lockstead_types::NodeId;

use crate::state::{MemberState, State};

/// Voters at most: more make each commit slower and survive nothing that five do not, once the dead are replaced.
pub const VOTERS: usize = 5;

impl State {
    /// [MEMBER-8] Who should vote, where `now` do: an odd number of members that are up, at most five, the lowest numbers first; of an even
    /// number a witness makes an odd one, or else one of them does not vote. But where these are fewer than now and would not
    /// survive more deaths, those of now stay, dead ones among them: three of which one is dead need both others, and one alone
    /// would need that one, with everything on its disk only. Who is no member any more goes in any case. Empty where nobody is
    /// up: the voters stay as they are.
    #[must_use]
    pub fn voters_wanted(&self, now: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
        let living = self.living_voters();
        let stay: BTreeSet<NodeId> = now.iter().filter(|node| self.members.contains_key(node)).copied().collect();
        if stay.is_empty() || living.len() >= stay.len() || self.survives(&living) > self.survives(&stay) {
            living
        } else {
            stay
        }
    }

    fn living_voters(&self) -> BTreeSet<NodeId> {
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

    /// How many deaths, of whomever, leave a majority of these voters: negative where there is none.
    fn survives(&self, voters: &BTreeSet<NodeId>) -> isize {
        let up = |node: &&NodeId| self.members.get(node).is_some_and(|member| member.state == MemberState::Up);
        let (living, needed) = (voters.iter().filter(up).count(), voters.len() / 2 + 1);
        // Of a thousand members at most.
        living as isize - needed as isize
    }
}
