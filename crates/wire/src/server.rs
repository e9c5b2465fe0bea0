//! Messages of a server.
use crate::{
    error::{DecodeError, EncodeError},
    limits::DecodeLimits,
};
use alloc::vec::Vec;
use core::marker::PhantomData;
use lockstead_types::message::ServerMessage;

/// Appends one message, without a frame header.
///
/// # Errors
/// [`EncodeError`] for a message its reader would refuse; `out` is as before.
pub fn encode_server(_message: &ServerMessage, _out: &mut Vec<u8>) -> Result<(), EncodeError> {
    Err(EncodeError::Number { field: "message" })
}

/// The messages of a frame's body, in order. Ends after the first error.
pub fn server_messages<'a>(_body: &'a [u8], _limits: &DecodeLimits) -> ServerMessages<'a> {
    ServerMessages(PhantomData)
}

/// See [`server_messages`].
pub struct ServerMessages<'a>(PhantomData<&'a ()>);

impl<'a> Iterator for ServerMessages<'a> {
    type Item = Result<ServerMessage, DecodeError>;
    fn next(&mut self) -> Option<Self::Item> {
        None
    }
}
