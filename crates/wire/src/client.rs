//! Messages of a client.
use crate::{
    error::{DecodeError, EncodeError},
    limits::DecodeLimits,
};
use alloc::vec::Vec;
use core::marker::PhantomData;
use lockstead_types::message::ClientMessage;

/// Appends one message, without a frame header.
///
/// # Errors
/// [`EncodeError`] for a message its reader would refuse; `out` is as before.
pub fn encode_client(_message: &ClientMessage<'_>, _out: &mut Vec<u8>) -> Result<(), EncodeError> {
    Err(EncodeError::Number { field: "message" })
}

/// The messages of a frame's body, in order. Ends after the first error.
pub fn client_messages<'a>(_body: &'a [u8], _limits: &DecodeLimits) -> ClientMessages<'a> {
    ClientMessages(PhantomData)
}

/// See [`client_messages`].
pub struct ClientMessages<'a>(PhantomData<&'a ()>);

impl<'a> Iterator for ClientMessages<'a> {
    type Item = Result<ClientMessage<'a>, DecodeError>;
    fn next(&mut self) -> Option<Self::Item> {
        None
    }
}
