//! Bounds on what is decoded, beside the length of the frame.

use lockstead_types::Limits;

/// Bounds on what one message may hold.
///
/// What a request can be refused for politely (`too-long`, `limit:names-per-request`) passes here up to the ceilings of
/// the protocol, so that the lock manager can say so under the request's number; were it refused here, the connection
/// would be cut, and the client would repeat the request over the next one ([WIRE-6]). Names and values of requests are
/// borrowed, so a long one costs nothing but the frame it came in.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct DecodeLimits {
    /// Bytes of holder metadata: host, program and purpose together.
    pub meta_bytes: usize,
    /// Requests in one all-or-nothing request.
    pub names: usize,
    /// Rows of one list in an answer.
    pub rows: usize,
}

impl DecodeLimits {
    /// The ceilings of the protocol, which writers keep too: what a client reads with.
    pub const CEILING: DecodeLimits =
        DecodeLimits { meta_bytes: 3 * u16::MAX as usize, names: u16::MAX as usize, rows: u32::MAX as usize };

    /// What a node with these limits reads with. Metadata cannot be refused under a request's number, so its limit holds
    /// here already.
    #[must_use]
    pub fn of_node(limits: &Limits) -> DecodeLimits {
        let meta_bytes = usize::try_from(limits.meta_bytes).unwrap_or(usize::MAX);
        DecodeLimits { meta_bytes, ..DecodeLimits::CEILING }
    }
}

impl From<&Limits> for DecodeLimits {
    fn from(limits: &Limits) -> DecodeLimits {
        DecodeLimits::of_node(limits)
    }
}
