//! How numbers, texts, lists and maps stand in bytes.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use super::bad;

/// Bytes that are being read.
pub(crate) struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { left: bytes }
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.left.is_empty()
    }

    fn bytes(&mut self, count: usize) -> io::Result<&'a [u8]> {
        let (taken, left) = self.left.split_at_checked(count).ok_or_else(|| bad("it ends too early"))?;
        self.left = left;
        Ok(taken)
    }

    /// A count of things that have a byte each at least.
    fn count(&mut self) -> io::Result<usize> {
        let count = u32::take(self)? as usize;
        if count > self.left.len() { Err(bad("a count is beyond the end")) } else { Ok(count) }
    }
}

/// Something that has a form in bytes.
pub(crate) trait Code: Sized {
    fn put(&self, out: &mut Vec<u8>);
    fn take(from: &mut Reader<'_>) -> io::Result<Self>;
}

macro_rules! numbers {
    ($($number:ty)*) => {$(
        impl Code for $number {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            fn take(from: &mut Reader<'_>) -> io::Result<$number> {
                let bytes = from.bytes(size_of::<$number>())?;
                Ok(<$number>::from_le_bytes(bytes.try_into().map_err(|_| bad("a number is cut"))?))
            }
        }
    )*};
}

numbers! { u8 u16 u32 u64 u128 }

impl Code for bool {
    fn put(&self, out: &mut Vec<u8>) {
        u8::from(*self).put(out);
    }

    fn take(from: &mut Reader<'_>) -> io::Result<bool> {
        match u8::take(from)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(bad("neither yes nor no")),
        }
    }
}

impl Code for [u8; 32] {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn take(from: &mut Reader<'_>) -> io::Result<[u8; 32]> {
        from.bytes(32)?.try_into().map_err(|_| bad("a key is cut"))
    }
}

impl Code for String {
    fn put(&self, out: &mut Vec<u8>) {
        put_count(self.len(), out);
        out.extend_from_slice(self.as_bytes());
    }

    fn take(from: &mut Reader<'_>) -> io::Result<String> {
        let count = from.count()?;
        String::from_utf8(from.bytes(count)?.to_vec()).map_err(|_| bad("a text is not UTF-8"))
    }
}

impl<T: Code> Code for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }

    fn take(from: &mut Reader<'_>) -> io::Result<Option<T>> {
        if bool::take(from)? { Ok(Some(T::take(from)?)) } else { Ok(None) }
    }
}

impl<T: Code> Code for Box<T> {
    fn put(&self, out: &mut Vec<u8>) {
        T::put(self, out);
    }

    fn take(from: &mut Reader<'_>) -> io::Result<Box<T>> {
        T::take(from).map(Box::new)
    }
}

impl<T: Code> Code for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        put_count(self.len(), out);
        self.iter().for_each(|one| one.put(out));
    }

    fn take(from: &mut Reader<'_>) -> io::Result<Vec<T>> {
        (0..from.count()?).map(|_| T::take(from)).collect()
    }
}

impl<T: Code + Ord> Code for BTreeSet<T> {
    fn put(&self, out: &mut Vec<u8>) {
        put_count(self.len(), out);
        self.iter().for_each(|one| one.put(out));
    }

    fn take(from: &mut Reader<'_>) -> io::Result<BTreeSet<T>> {
        (0..from.count()?).map(|_| T::take(from)).collect()
    }
}

impl<K: Code + Ord, V: Code> Code for BTreeMap<K, V> {
    fn put(&self, out: &mut Vec<u8>) {
        put_count(self.len(), out);
        for (key, value) in self {
            key.put(out);
            value.put(out);
        }
    }

    fn take(from: &mut Reader<'_>) -> io::Result<BTreeMap<K, V>> {
        (0..from.count()?).map(|_| Ok((K::take(from)?, V::take(from)?))).collect()
    }
}

impl Code for Box<[u8]> {
    fn put(&self, out: &mut Vec<u8>) {
        self.to_vec().put(out);
    }

    fn take(from: &mut Reader<'_>) -> io::Result<Box<[u8]>> {
        Ok(Vec::<u8>::take(from)?.into())
    }
}

impl<A: Code, B: Code> Code for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }

    fn take(from: &mut Reader<'_>) -> io::Result<(A, B)> {
        Ok((A::take(from)?, B::take(from)?))
    }
}

impl<A: Code, B: Code, C: Code> Code for (A, B, C) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
        self.2.put(out);
    }

    fn take(from: &mut Reader<'_>) -> io::Result<(A, B, C)> {
        Ok((A::take(from)?, B::take(from)?, C::take(from)?))
    }
}

impl Code for [String; 3] {
    fn put(&self, out: &mut Vec<u8>) {
        self.iter().for_each(|text| text.put(out));
    }

    fn take(from: &mut Reader<'_>) -> io::Result<[String; 3]> {
        Ok([String::take(from)?, String::take(from)?, String::take(from)?])
    }
}

/// All lists are bounded by [`lockstead_cluster`]'s limits, far below 2^32.
fn put_count(count: usize, out: &mut Vec<u8>) {
    u32::try_from(count).unwrap_or(u32::MAX).put(out);
}
