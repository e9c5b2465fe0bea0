//! Bounds on what is decoded, beside the length of the frame.

use lockstead_types::Limits;

/// Bounds on what one message may hold, beyond those that the frame's length and the width of the length fields set.
///
/// Few are needed. Names and values of requests are borrowed, so a long one costs nothing but the frame it came in; a list
/// is refused unless the bytes left could fill it. What a request can be refused for politely (`too-long`,
/// `limit:names-per-request`) passes here, so that the lock manager can say so under the request's number: were it refused
/// here, the connection would be cut, and the client would repeat the request over the next one, for ever ([WIRE-6]).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct DecodeLimits {
    /// Bytes of holder metadata: host, program and purpose together.
    pub meta_bytes: usize,
}

impl DecodeLimits {
    /// The ceilings of the protocol, which writers keep too: what a client reads with.
    pub const CEILING: DecodeLimits = DecodeLimits { meta_bytes: 3 * u16::MAX as usize };

    /// What a node with these limits reads with. Metadata comes with no request number to refuse it under, so its limit
    /// holds here already.
    #[must_use]
    pub fn of_node(limits: &Limits) -> DecodeLimits {
        // [WIRE-6] Not `name_bytes`, `value_bytes`, `names_per_request`: the lock manager refuses those by name.
        DecodeLimits { meta_bytes: usize::try_from(limits.meta_bytes).unwrap_or(usize::MAX) }
    }
}

impl From<&Limits> for DecodeLimits {
    fn from(limits: &Limits) -> DecodeLimits {
        DecodeLimits::of_node(limits)
    }
}
