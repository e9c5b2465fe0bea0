//! What proves a claim: a member seals each grant it hands to a client, and the session's next home lets nobody claim what no
//! member granted. A file of its own, since what a seal covers must be the same bytes on every node ([CLUSTER-18]).

use core::hash::Hasher as _;

use lockstead_types::{
    Flags, Seal, Sealed, SessionId, SpaceId, Token, message::Reclaim, refusal::Refusal, reply::Grant, request::Claim,
};
use siphasher::sip128::{Hash128, Hasher128 as _, SipHasher24};

use super::{Member, copies::Copy};
use crate::node::Node;

/// Makes seals under the members' key.
pub(crate) struct Sealer {
    /// Keyed, and fed nothing yet.
    keyed: SipHasher24,
}

/// What a seal says.
#[derive(Clone, Copy)]
pub(crate) struct Granted<'a> {
    space: SpaceId,
    name: &'a [u8],
    session: SessionId,
    claim: Claim,
    token: Token,
    tag: u32,
    alone: bool,
    group: Option<&'a [u8]>,
    flags: Flags,
}

/// How what is hashed is arranged: another arrangement gets another number.
const FORM: u8 = 1;
const KEY_FORM: &[u8] = b"lockstead seal key 1";
/// What a lock keeps of its flags, and a claim says.
const KEPT: Flags = Flags(Flags::PERSISTENT.0 | Flags::NODLCKBLK.0 | Flags::NOBAST.0);

impl Sealer {
    /// The key for seals is made from the members' key, so that no other use of that one can ever yield a seal.
    pub(crate) fn new(key: &[u8; 32]) -> Sealer {
        let (outer, inner) = key.split_at(16);
        let mut derived = SipHasher24::new_with_key(outer.first_chunk().unwrap_or(&[0; 16]));
        derived.write(KEY_FORM);
        derived.write(inner);
        Sealer { keyed: SipHasher24::new_with_key(&bytes_of(derived.finish128())) }
    }

    pub(crate) fn seal(&self, granted: &Granted<'_>) -> Seal {
        let mut hasher = self.keyed;
        hasher.write(&granted.head());
        if let Some(group) = granted.group {
            hasher.write(&(group.len() as u64).to_le_bytes());
            hasher.write(group);
        }
        // Last, since it alone has no fixed length.
        hasher.write(granted.name);
        Seal(bytes_of(hasher.finish128()))
    }
}

impl<'a> Granted<'a> {
    fn of_copy(session: SessionId, copy: &'a Copy, grant: &Grant) -> Granted<'a> {
        Granted {
            space: copy.space,
            name: &copy.name,
            session,
            claim: grant.claim,
            token: grant.token,
            tag: copy.tag,
            alone: copy.alone,
            group: copy.group.as_ref().map(|group| &*group.name),
            flags: copy.flags,
        }
    }

    fn of_claim(session: SessionId, claim: &Reclaim<'a>, granted: Claim) -> Granted<'a> {
        Granted {
            space: claim.space,
            name: claim.name,
            session,
            claim: granted,
            token: claim.token,
            tag: claim.tag,
            alone: claim.alone,
            group: claim.group,
            flags: claim.flags,
        }
    }

    /// Everything but the name, each field in its place.
    fn head(&self) -> [u8; 48] {
        let (kind, first, second) = match self.claim {
            Claim::Mode(mode) => (0, u32::from(mode.0), 0),
            Claim::Permits { take, of } => (1, take, of),
        };
        let two = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let traits = u32::from_le_bytes([FORM, u8::from(self.alone), kind, u8::from(self.group.is_some())]);
        let words = [
            self.session.0 as u64,
            (self.session.0 >> 64) as u64,
            self.token.as_u64(),
            two(self.space.0, self.tag),
            two(self.flags.0 & KEPT.0, traits),
            two(first, second),
        ];
        let mut head = [0; 48];
        head.chunks_exact_mut(8).zip(words).for_each(|(to, word)| to.copy_from_slice(&word.to_le_bytes()));
        head
    }
}

impl Member {
    /// Seals what a session is granted: what its client may claim at another home.
    pub(crate) fn seal_grant(&self, session: SessionId, copy: u32, grant: &mut Grant) {
        let copy = self.copies.get(copy);
        grant.seal = copy.map(|copy| self.sealer.seal(&Granted::of_copy(session, copy, grant)));
    }
}

impl Node {
    /// [CLUSTER-18] Refuses a claim of what no member granted to this session: one without its seal, and one of more than
    /// was sealed.
    pub(crate) fn check_proof(&mut self, at: u32, claim: &Reclaim<'_>, sealed: Option<&Sealed>) -> Result<(), Refusal> {
        let space = self.table.space(claim.space).ok_or(Refusal::NoLockspace)?;
        let (Some(member), Some(session)) = (&self.member, self.sessions.get(at)) else { return Err(Refusal::Lost) };
        #[cfg(feature = "planted")]
        if lockstead_types::planted::is(lockstead_types::planted::Bug::SealUnread) {
            return Ok(());
        }
        let right = sealed.filter(|s| {
            let granted = Granted::of_claim(session.id, claim, s.claim);
            member.sealer.seal(&granted).matches(&s.seal)
        });
        let enough = right.is_some_and(|sealed| match (sealed.claim, claim.held) {
            (Claim::Mode(granted), Claim::Mode(held)) => space.modes.has(held) && space.modes.is_down(granted, held),
            (granted, held) => granted == held,
        });
        if enough { Ok(()) } else { Err(self.on_unproven(at, claim)) }
    }

    fn on_unproven(&mut self, at: u32, claim: &Reclaim<'_>) -> Refusal {
        self.counters.reclaims_refused += 1;
        self.counters.reclaims_unproven += 1;
        // Once for a session: who makes up one claim can make up a million.
        let first =
            self.sessions.get_mut(at).is_some_and(|s| !core::mem::replace(&mut s.extra_or_new().unproven, true));
        if first {
            let (space, name) = (claim.space.0, claim.name.escape_ascii());
            let what = alloc::format!("claim refused of {name} in lockspace number {space}, which no seal proves,");
            self.audit_request(at, &what, None);
        }
        Refusal::Lost
    }
}

fn bytes_of(hash: Hash128) -> [u8; 16] {
    u128::from(hash).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use lockstead_types::Mode;

    use super::*;

    const KEY: [u8; 32] = [1; 32];

    fn granted() -> Granted<'static> {
        Granted {
            space: SpaceId(3),
            name: b"orders/7",
            session: SessionId(0x0011_2233_4455_6677_8899_AABB_CCDD_EEFF),
            claim: Claim::Mode(Mode(5)),
            token: Token::new(1, 9).unwrap_or(Token::NONE),
            tag: 4,
            alone: true,
            group: None,
            flags: Flags::PERSISTENT,
        }
    }

    /// Nodes of two versions must know each other's seals.
    #[test]
    fn a_seal_is_the_same_on_every_node() {
        let seal = Sealer::new(&KEY).seal(&granted());
        assert_eq!(alloc::format!("{:032x}", u128::from_be_bytes(seal.0)), "745b736dbe0cd6977f86b34ccec3f84d");
    }

    #[test]
    fn everything_it_says_is_in_it() {
        let sealer = Sealer::new(&KEY);
        let others = [
            granted(),
            Granted { space: SpaceId(4), ..granted() },
            Granted { name: b"orders/8", ..granted() },
            Granted { name: b"orders/7\0", ..granted() },
            Granted { name: b"", ..granted() },
            Granted { session: SessionId(1), ..granted() },
            Granted { claim: Claim::Mode(Mode(4)), ..granted() },
            Granted { claim: Claim::Permits { take: 5, of: 0 }, ..granted() },
            Granted { claim: Claim::Permits { take: 5, of: 1 }, ..granted() },
            Granted { token: Token::NONE, ..granted() },
            Granted { tag: 5, ..granted() },
            Granted { alone: false, ..granted() },
            Granted { flags: Flags::NONE, ..granted() },
            Granted { group: Some(b"team"), ..granted() },
            Granted { group: Some(b"teamorders"), name: b"/7", ..granted() },
            Granted { group: Some(b""), ..granted() },
        ];
        let seals: alloc::collections::BTreeSet<_> = others.iter().map(|g| sealer.seal(g).0).collect();
        assert_eq!(seals.len(), others.len());
        // Flags that end with their request are not claimed.
        assert!(
            sealer
                .seal(&Granted { flags: Flags::PERSISTENT.with(Flags::NOQUEUE), ..granted() })
                .matches(&sealer.seal(&granted()))
        );
    }

    #[test]
    fn each_half_of_the_key_counts() {
        let of = |at: usize| {
            let mut key = KEY;
            key[at] ^= 1;
            Sealer::new(&key).seal(&granted()).0
        };
        let seals = [Sealer::new(&KEY).seal(&granted()).0, of(0), of(15), of(16), of(31)];
        assert_eq!(alloc::collections::BTreeSet::from(seals).len(), seals.len());
    }
}
