//! What proves a claim: a seal that a member of a cluster gives with a grant, and its client presents where it claims the lock
//! ([CLUSTER-18]). Only members can make one or tell whether one is right; here it is sixteen bytes.

use crate::request::Claim;

/// A proof that a member granted a lock.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Seal(pub [u8; 16]);

impl Seal {
    /// Whether it is this one, told in the same time wherever they differ: who guesses at a seal learns nothing from how long
    /// the refusal takes.
    #[must_use]
    pub fn matches(&self, other: &Seal) -> bool {
        let differ = self.0.iter().zip(&other.0).fold(0, |seen, (a, b)| seen | (a ^ b));
        core::hint::black_box(differ) == 0
    }
}

/// A seal with the claim it is about. What a client holds may be less by now.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Sealed {
    /// What was granted.
    pub claim: Claim,
    /// The proof.
    pub seal: Seal,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bit_is_enough_to_differ() {
        let seal = Seal([7; 16]);
        assert!(seal.matches(&seal));
        for bit in 0..128 {
            let mut other = seal;
            other.0[bit / 8] ^= 1 << (bit % 8);
            assert!(!seal.matches(&other), "bit {bit}");
        }
    }
}
