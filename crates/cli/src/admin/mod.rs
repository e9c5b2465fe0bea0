//! Commands that change what others have.

pub(crate) mod cluster;
pub(crate) mod lockspace;
pub(crate) mod release;
