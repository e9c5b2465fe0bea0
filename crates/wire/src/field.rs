//! What messages are made of: a cursor that cannot run over the end, and how single values, texts and lists look.
//!
//! All numbers are little-endian. A text or name is its length (`u16`) and its bytes, a value block its length (`u32`) and
//! its bytes, a list its count (`u32`) and its members, an option one byte (0 or 1) and what is there.

use alloc::{boxed::Box, string::String, vec::Vec};

use lockstead_types::{
    Flags, GroupId, LockId, Mode, NodeId, RequestId, SessionId, SpaceId, Span, Token, mode::MODES_MAX,
    transaction::Savepoint,
};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::{
    error::{DecodeError, EncodeError},
    limits::DecodeLimits,
};

/// Something that can be written and read.
pub(crate) trait Field<'a>: Sized {
    /// The fewest bytes one takes: what bounds the count of a list before room is made for it ([WIRE-4]).
    const MIN: usize;

    /// Appends it. On an error `out` may hold a part of it; the message's writer takes that away.
    fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError>;

    /// Reads one.
    fn get(r: &mut Reader<'a>) -> Result<Self, DecodeError>;
}

/// A cursor over the body of a frame.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    total: usize,
    limits: DecodeLimits,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(body: &'a [u8], limits: DecodeLimits) -> Reader<'a> {
        Reader { rest: body, total: body.len(), limits }
    }

    /// The offset of the next byte in the body.
    #[inline]
    pub(crate) fn at(&self) -> usize {
        self.total - self.rest.len()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Skips what is left: after an error nothing more can be read.
    pub(crate) fn stop(&mut self) {
        self.rest = &[];
    }

    pub(crate) fn limits(&self) -> DecodeLimits {
        self.limits
    }

    #[inline]
    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(DecodeError::Truncated { at: self.total })?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Truncated { at: self.total })?;
        self.rest = rest;
        Ok(*taken)
    }

    /// A record of fixed layout, in place.
    #[inline]
    pub(crate) fn record<T: FromBytes + KnownLayout + Immutable + Unaligned>(&mut self) -> Result<&'a T, DecodeError> {
        let (record, rest) = T::ref_from_prefix(self.rest).map_err(|_| DecodeError::Truncated { at: self.total })?;
        self.rest = rest;
        Ok(record)
    }

    /// The count of a list whose members take `min` bytes at least.
    pub(crate) fn count(&mut self, min: usize) -> Result<usize, DecodeError> {
        let at = self.at();
        let length = u32::get(self)? as usize;
        let max = self.rest.len() / min.max(1);
        if length > max { Err(DecodeError::TooLong { at, field: "list", length, max }) } else { Ok(length) }
    }

    /// The bytes of a value block.
    #[inline]
    pub(crate) fn long_bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let at = self.at();
        let length = u32::get(self)? as usize;
        let max = self.rest.len();
        if length > max {
            return Err(DecodeError::TooLong { at, field: "value", length, max });
        }
        self.take(length)
    }
}

/// Appends what every request and answer starts with: its code and its number, in one go.
#[inline]
pub(crate) fn put_head(code: u8, id: RequestId, out: &mut Vec<u8>) {
    let [a, b, c, d, e, f, g, h] = id.0.to_le_bytes();
    // Room for the rest of a hot message too: one growth, not several.
    out.reserve(64);
    out.extend_from_slice(&[code, a, b, c, d, e, f, g, h]);
}

/// Appends the bytes of a value block.
#[inline]
pub(crate) fn put_long_bytes(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let too_long = EncodeError::TooLong { field: "value", length: bytes.len(), max: u32::MAX as usize };
    u32::try_from(bytes.len()).map_err(|_| too_long)?.put(out)?;
    out.extend_from_slice(bytes);
    Ok(())
}

macro_rules! numbers {
    ($($type:ty),*) => {$(
        impl Field<'_> for $type {
            const MIN: usize = size_of::<$type>();

            #[inline]
            fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
                out.extend_from_slice(&self.to_le_bytes());
                Ok(())
            }

            #[inline]
            fn get(r: &mut Reader<'_>) -> Result<$type, DecodeError> {
                r.array().map(<$type>::from_le_bytes)
            }
        }
    )*};
}

numbers!(u8, i8, u16, u32, u64, u128);

macro_rules! ids {
    ($($type:ident($number:ty)),*) => {$(
        impl Field<'_> for $type {
            const MIN: usize = size_of::<$number>();

            #[inline]
            fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
                self.0.put(out)
            }

            #[inline]
            fn get(r: &mut Reader<'_>) -> Result<$type, DecodeError> {
                <$number>::get(r).map($type)
            }
        }
    )*};
}

ids!(Savepoint(u64), SessionId(u128), LockId(u64), RequestId(u64), SpaceId(u32), GroupId(u32), NodeId(u16));

impl Field<'_> for bool {
    const MIN: usize = 1;

    fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        u8::from(*self).put(out)
    }

    fn get(r: &mut Reader<'_>) -> Result<bool, DecodeError> {
        let at = r.at();
        match u8::get(r)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Number { at, field: "yes or no" }),
        }
    }
}

impl Field<'_> for Span {
    const MIN: usize = 8;

    fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.as_nanos().put(out)
    }

    fn get(r: &mut Reader<'_>) -> Result<Span, DecodeError> {
        u64::get(r).map(Span::from_nanos)
    }
}

impl Field<'_> for Token {
    const MIN: usize = 8;

    fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.as_u64().put(out)
    }

    fn get(r: &mut Reader<'_>) -> Result<Token, DecodeError> {
        let at = r.at();
        token_of(u64::get(r)?, at)
    }
}

/// [WIRE-5] A token above 2^63 - 1 is none.
#[inline]
pub(crate) fn token_of(number: u64, at: usize) -> Result<Token, DecodeError> {
    Token::from_u64(number).ok_or(DecodeError::Number { at, field: "token" })
}

impl Field<'_> for Mode {
    const MIN: usize = 1;

    fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        mode_number(*self)?.put(out)
    }

    fn get(r: &mut Reader<'_>) -> Result<Mode, DecodeError> {
        let at = r.at();
        mode_of(u8::get(r)?, at)
    }
}

/// [WIRE-5] No table has a mode above 31; mode sets are 32 bits wide, so a larger one must not get in.
#[inline]
pub(crate) fn mode_of(number: u8, at: usize) -> Result<Mode, DecodeError> {
    if usize::from(number) < MODES_MAX { Ok(Mode(number)) } else { Err(DecodeError::Number { at, field: "mode" }) }
}

#[inline]
pub(crate) fn mode_number(mode: Mode) -> Result<u8, EncodeError> {
    if usize::from(mode.0) < MODES_MAX { Ok(mode.0) } else { Err(EncodeError::Number { field: "mode" }) }
}

const KNOWN_FLAGS: u32 = {
    let mut all = 0;
    let mut i = 0;
    while i < Flags::ALL.len() {
        all |= Flags::ALL[i].0.0;
        i += 1;
    }
    all
};

impl Field<'_> for Flags {
    const MIN: usize = 4;

    fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        flag_bits(*self)?.put(out)
    }

    fn get(r: &mut Reader<'_>) -> Result<Flags, DecodeError> {
        let at = r.at();
        flags_of(u32::get(r)?, at)
    }
}

/// [WIRE-5] A bit that has no name is refused, not ignored: a later version may give it a meaning that matters.
#[inline]
pub(crate) fn flags_of(bits: u32, at: usize) -> Result<Flags, DecodeError> {
    if bits & !KNOWN_FLAGS == 0 { Ok(Flags(bits)) } else { Err(DecodeError::Number { at, field: "flag" }) }
}

#[inline]
pub(crate) fn flag_bits(flags: Flags) -> Result<u32, EncodeError> {
    if flags.0 & !KNOWN_FLAGS == 0 { Ok(flags.0) } else { Err(EncodeError::Number { field: "flag" }) }
}

/// The length of a name, as it stands on the wire.
#[inline]
pub(crate) fn short_length(bytes: &[u8], field: &'static str) -> Result<u16, EncodeError> {
    let too_long = EncodeError::TooLong { field, length: bytes.len(), max: usize::from(u16::MAX) };
    u16::try_from(bytes.len()).map_err(|_| too_long)
}

/// A name.
impl<'a> Field<'a> for &'a [u8] {
    const MIN: usize = 2;

    fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        short_length(self, "name")?.put(out)?;
        out.extend_from_slice(self);
        Ok(())
    }

    fn get(r: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
        let length = u16::get(r)?;
        r.take(usize::from(length))
    }
}

impl<'a> Field<'a> for &'a str {
    const MIN: usize = 2;

    fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        short_length(self.as_bytes(), "text")?.put(out)?;
        out.extend_from_slice(self.as_bytes());
        Ok(())
    }

    fn get(r: &mut Reader<'a>) -> Result<&'a str, DecodeError> {
        let at = r.at();
        core::str::from_utf8(<&[u8]>::get(r)?).map_err(|_| DecodeError::Text { at })
    }
}

impl Field<'_> for String {
    const MIN: usize = 2;

    fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.as_str().put(out)
    }

    fn get(r: &mut Reader<'_>) -> Result<String, DecodeError> {
        <&str>::get(r).map(String::from)
    }
}

/// Bytes that the reader keeps: a value block, a name in a report.
impl Field<'_> for Box<[u8]> {
    const MIN: usize = 4;

    fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        put_long_bytes(self, out)
    }

    fn get(r: &mut Reader<'_>) -> Result<Box<[u8]>, DecodeError> {
        r.long_bytes().map(Box::from)
    }
}

impl<'a, T: Field<'a>> Field<'a> for Option<T> {
    const MIN: usize = 1;

    fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.is_some().put(out)?;
        self.as_ref().map_or(Ok(()), |inner| inner.put(out))
    }

    fn get(r: &mut Reader<'a>) -> Result<Option<T>, DecodeError> {
        bool::get(r)?.then(|| T::get(r)).transpose()
    }
}

impl<'a, T: Field<'a>> Field<'a> for Box<T> {
    const MIN: usize = T::MIN;

    fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        (**self).put(out)
    }

    fn get(r: &mut Reader<'a>) -> Result<Box<T>, DecodeError> {
        T::get(r).map(Box::new)
    }
}

impl<'a, T: Field<'a>> Field<'a> for Vec<T> {
    const MIN: usize = 4;

    fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let too_long = EncodeError::TooLong { field: "list", length: self.len(), max: u32::MAX as usize };
        u32::try_from(self.len()).map_err(|_| too_long)?.put(out)?;
        self.iter().try_for_each(|member| member.put(out))
    }

    fn get(r: &mut Reader<'a>) -> Result<Vec<T>, DecodeError> {
        // [WIRE-4] The count is believed only as far as the bytes left could fill it.
        let count = r.count(T::MIN)?;
        let mut list = Vec::with_capacity(count);
        for _ in 0..count {
            list.push(T::get(r)?);
        }
        Ok(list)
    }
}

impl<'a, A: Field<'a>, B: Field<'a>> Field<'a> for (A, B) {
    const MIN: usize = A::MIN + B::MIN;

    fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.0.put(out)?;
        self.1.put(out)
    }

    fn get(r: &mut Reader<'a>) -> Result<(A, B), DecodeError> {
        Ok((A::get(r)?, B::get(r)?))
    }
}

impl<'a, A: Field<'a>, B: Field<'a>, C: Field<'a>> Field<'a> for (A, B, C) {
    const MIN: usize = A::MIN + B::MIN + C::MIN;

    fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.0.put(out)?;
        self.1.put(out)?;
        self.2.put(out)
    }

    fn get(r: &mut Reader<'a>) -> Result<(A, B, C), DecodeError> {
        Ok((A::get(r)?, B::get(r)?, C::get(r)?))
    }
}

impl<'a, T: Field<'a>> Field<'a> for [T; 3] {
    const MIN: usize = 3 * T::MIN;

    fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.iter().try_for_each(|member| member.put(out))
    }

    fn get(r: &mut Reader<'a>) -> Result<[T; 3], DecodeError> {
        Ok([T::get(r)?, T::get(r)?, T::get(r)?])
    }
}

/// A struct: its fields in the order written here. A field that is missing here does not compile.
macro_rules! record {
    ($type:ty { $($field:ident: $of:ty),* $(,)? }) => {
        impl<'a> $crate::field::Field<'a> for $type {
            const MIN: usize = 0 $(+ <$of as $crate::field::Field<'a>>::MIN)*;

            fn put(&self, out: &mut alloc::vec::Vec<u8>) -> Result<(), $crate::error::EncodeError> {
                let Self { $($field),* } = self;
                $($field.put(out)?;)*
                Ok(())
            }

            fn get(r: &mut $crate::field::Reader<'a>) -> Result<Self, $crate::error::DecodeError> {
                Ok(Self { $($field: <$of as $crate::field::Field<'a>>::get(r)?),* })
            }
        }
    };
}

/// An enum: one byte for the variant, then its fields in the order written here. A variant or field that is missing here
/// does not compile; two of one number are an unreachable pattern.
macro_rules! choice {
    ($type:ty, $what:literal {
        $($number:literal = $variant:ident $({ $($field:ident),* $(,)? })? $(($($part:ident),*))?),* $(,)?
    }) => {
        impl<'a> $crate::field::Field<'a> for $type {
            const MIN: usize = 1;

            fn put(&self, out: &mut alloc::vec::Vec<u8>) -> Result<(), $crate::error::EncodeError> {
                match self {
                    $(Self::$variant $({ $($field),* })? $(($($part),*))? => {
                        out.push($number);
                        $($($field.put(out)?;)*)?
                        $($($part.put(out)?;)*)?
                    })*
                }
                Ok(())
            }

            fn get(r: &mut $crate::field::Reader<'a>) -> Result<Self, $crate::error::DecodeError> {
                let at = r.at();
                match u8::get(r)? {
                    $($number => {
                        $($(let $field = $crate::field::Field::get(r)?;)*)?
                        $($(let $part = $crate::field::Field::get(r)?;)*)?
                        Ok(Self::$variant $({ $($field),* })? $(($($part),*))?)
                    })*
                    // [WIRE-5] A kind this version does not know.
                    _ => Err($crate::error::DecodeError::Number { at, field: $what }),
                }
            }
        }
    };
}

pub(crate) use {choice, record};
