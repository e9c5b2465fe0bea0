//! A client that lies: beside a true claim it sends one to which its session has no right. Members ask for proof; a node alone
//! believes its clients.

use lockstead_types::{
    Mode, RequestId, Token,
    message::{ClientMessage, Reclaim},
    request::Claim,
};

use crate::{clients::bytes_of, random::Random, resource::name_of};

/// Beside the topmost bit, which the numbers of claims have.
const LIE_BIT: u64 = 1 << 62;

/// What is wrong with a claim.
#[derive(Copy, Clone)]
enum Lie {
    NoSeal,
    Stronger,
    LaterToken,
    OtherName,
}

/// Whether an answer is to a lie.
pub(crate) fn is_lie(id: RequestId) -> bool {
    id.0 >> 62 == 3
}

/// The bytes of a claim like a true one, now and then.
pub(crate) fn forge(random: &mut Random, names: u32, message: &ClientMessage<'_>) -> Option<Vec<u8>> {
    let ClientMessage::Reclaim { id, claim, sealed } = message else { return None };
    if random.chance(500) {
        return None;
    }
    let lie = random.pick(&[Lie::NoSeal, Lie::Stronger, Lie::LaterToken, Lie::OtherName]);
    let other = name_of(random.below(u64::from(names)) as u8);
    let (mut forged, mut seal): (Reclaim<'_>, _) = (claim.clone(), *sealed);
    let strongest = Claim::Mode(Mode(5));
    match lie {
        // A seal of more than is held now proves more.
        Lie::Stronger if sealed.is_some_and(|s| s.claim != strongest) => forged.held = strongest,
        Lie::LaterToken => forged.token = Token::new(claim.token.epoch(), claim.token.sequence() + 1)?,
        Lie::OtherName if other != claim.name => forged.name = &other,
        Lie::NoSeal | Lie::Stronger | Lie::OtherName => seal = None,
    }
    // Not the number of a lock that it truly has.
    forged.lock.0 ^= 1 << 40;
    Some(bytes_of(&ClientMessage::Reclaim { id: RequestId(id.0 | LIE_BIT), claim: forged, sealed: seal }))
}
