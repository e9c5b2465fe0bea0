//! Extents: parts of a resource, as a range of keys or what a predicate says of attributes, and how they are written into names.
//!
//! An extent is a conjunction of intervals, each over one attribute; the key of an ordered resource is the attribute without a name. So a
//! range of keys, a row, and a predicate are one thing, and whether two have something in common is one question, answered exactly in
//! [`Extent::overlaps`]. A file of its own because names are read and written here and nowhere else.

use alloc::{boxed::Box, string::String, vec::Vec};
use core::{fmt, ops::Bound};

/// So many attributes one extent names at most. How long it may be the bound on names says: it is part of one.
pub const ATTRIBUTES_MAX: usize = 8;

/// Keys in lexicographic order, from `lo` on and below `hi`.
///
/// Ends that belong to an interval and ends that do not are the same thing: the least key after `k` is `k` and a zero byte.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Interval {
    lo: Box<[u8]>,
    hi: Option<Box<[u8]>>,
}

impl Interval {
    /// The keys between two bounds. `None` where there is no key between them.
    #[must_use]
    pub fn new(lo: Bound<&[u8]>, hi: Bound<&[u8]>) -> Option<Interval> {
        let lo = match lo {
            Bound::Unbounded => Box::default(),
            Bound::Included(key) => key.into(),
            Bound::Excluded(key) => after(key),
        };
        let hi = match hi {
            Bound::Unbounded => None,
            Bound::Included(key) => Some(after(key)),
            Bound::Excluded(key) => Some(key.into()),
        };
        hi.as_ref().is_none_or(|hi| lo < *hi).then_some(Interval { lo, hi })
    }

    /// One key.
    #[must_use]
    pub fn point(key: &[u8]) -> Interval {
        Interval { lo: key.into(), hi: Some(after(key)) }
    }

    /// Bytes of a file, or other numbers, from `lo` on and below `hi`. `None` where there are none.
    #[must_use]
    pub fn numbers(lo: u64, hi: Option<u64>) -> Option<Interval> {
        let hi = hi.map(u64::to_be_bytes);
        let end = hi.as_ref().map_or(Bound::Unbounded, |hi| Bound::Excluded(hi.as_slice()));
        Interval::new(Bound::Included(&lo.to_be_bytes()), end)
    }

    /// The least key in it.
    #[must_use]
    pub fn lo(&self) -> &[u8] {
        &self.lo
    }

    /// The least key above it; `None` where there is none.
    #[must_use]
    pub fn hi(&self) -> Option<&[u8]> {
        self.hi.as_deref()
    }

    /// Whether a key is in both.
    #[must_use]
    pub fn overlaps(&self, other: &Interval) -> bool {
        // The higher of the two lower ends is in both, or nothing is.
        let below = |lo: &[u8], hi: Option<&[u8]>| hi.is_none_or(|hi| lo < hi);
        below(&self.lo, other.hi()) && below(&other.lo, self.hi())
    }

    /// Whether a key is in it.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        *self.lo <= *key && self.hi().is_none_or(|hi| key < hi)
    }

    fn is_everything(&self) -> bool {
        self.lo.is_empty() && self.hi.is_none()
    }

    /// The key, where there is one alone.
    #[must_use]
    pub fn only(&self) -> Option<&[u8]> {
        self.hi().and_then(|hi| hi.strip_suffix(b"\0")).filter(|key| **key == *self.lo)
    }
}

/// The least key above another.
fn after(key: &[u8]) -> Box<[u8]> {
    key.iter().copied().chain([0]).collect()
}

/// What an extent says of one attribute.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Condition {
    /// The attribute; without a name, the key.
    pub attribute: Box<[u8]>,
    /// What it is.
    pub values: Interval,
}

/// A part of a resource: all that meets every one of its conditions. Without conditions, the whole.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Extent {
    /// Sorted by attribute, each once.
    conditions: Box<[Condition]>,
}

/// Why a name, or conditions, are none of an extent.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum ExtentError {
    /// It is written otherwise, or names no resource.
    Form,
    /// An interval has nothing in it.
    Empty,
    /// An attribute is there twice.
    Twice,
    /// There are more than [`ATTRIBUTES_MAX`].
    TooMany,
}

impl fmt::Display for ExtentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ExtentError::Form => "a part of a resource is written NAME[key], NAME[from,below), NAME(above,to] or NAME{attribute=value&...}",
            ExtentError::Empty => "an interval has nothing in it",
            ExtentError::Twice => "an attribute is there twice",
            ExtentError::TooMany => "there are more attributes than an extent may name",
        })
    }
}

impl core::error::Error for ExtentError {}

impl Extent {
    /// A range of keys.
    #[must_use]
    pub fn range(keys: Interval) -> Extent {
        // Without a bound it says nothing.
        let one = (!keys.is_everything()).then_some(Condition { attribute: Box::default(), values: keys });
        Extent { conditions: one.into_iter().collect() }
    }

    /// What meets all of these.
    ///
    /// # Errors
    /// `Twice`, `TooMany`.
    pub fn of(mut conditions: Vec<Condition>) -> Result<Extent, ExtentError> {
        conditions.sort_by(|a, b| a.attribute.cmp(&b.attribute));
        if conditions.windows(2).any(|pair| matches!(pair, [a, b] if a.attribute == b.attribute)) {
            return Err(ExtentError::Twice);
        }
        conditions.retain(|c| !c.values.is_everything());
        // [PRED-2]
        if conditions.len() > ATTRIBUTES_MAX {
            return Err(ExtentError::TooMany);
        }
        Ok(Extent { conditions: conditions.into() })
    }

    /// What it says, sorted by attribute; nothing of the whole.
    #[must_use]
    pub fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    /// Whether it is the whole resource.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.conditions.is_empty()
    }

    /// Whether something may be in both: unless some attribute is said by the two of them to be what cannot be at once.
    #[must_use]
    pub fn overlaps(&self, other: &Extent) -> bool {
        let (mut mine, mut theirs) = (self.conditions.iter().peekable(), other.conditions.iter().peekable());
        // [RANGE-2] [PRED-1]
        while let (Some(a), Some(b)) = (mine.peek(), theirs.peek()) {
            match a.attribute.cmp(&b.attribute) {
                core::cmp::Ordering::Less => mine.next(),
                core::cmp::Ordering::Greater => theirs.next(),
                core::cmp::Ordering::Equal if !a.values.overlaps(&b.values) => return false,
                core::cmp::Ordering::Equal => {
                    mine.next();
                    theirs.next()
                }
            };
        }
        true
    }

    /// As it stands behind the name of its resource; nothing for the whole.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        match &*self.conditions {
            [] => {}
            [key] if key.attribute.is_empty() => write_interval(&mut text, &key.values),
            all => {
                for (at, condition) in all.iter().enumerate() {
                    text.push(if at == 0 { '{' } else { '&' });
                    write_key(&mut text, &condition.attribute);
                    text.push('=');
                    match condition.values.only() {
                        Some(value) => write_key(&mut text, value),
                        None => write_interval(&mut text, &condition.values),
                    }
                }
                text.push('}');
            }
        }
        text
    }

    /// The name of this part of a resource.
    #[must_use]
    pub fn name_in(&self, resource: &[u8]) -> Vec<u8> {
        [resource, self.text().as_bytes()].concat()
    }
}

/// The name of the resource that a name of a lockspace with extents is about.
#[must_use]
pub fn resource_of(name: &[u8]) -> &[u8] {
    let end = name.iter().position(|byte| matches!(byte, b'[' | b'(' | b'{')).unwrap_or(name.len());
    name.get(..end).unwrap_or(name)
}

/// A name of a lockspace with extents, taken apart. Each extent is written in one way alone ([RANGE-1]): two names are equal where
/// what they name is.
///
/// # Errors
/// What is wrong with it; `Form` also where the same is to be written otherwise ([`canonical`]).
pub fn split(name: &[u8]) -> Result<(&[u8], Extent), ExtentError> {
    let (resource, extent) = read(name)?;
    let rest = name.get(resource.len()..).unwrap_or_default();
    if extent.text().as_bytes() == rest { Ok((resource, extent)) } else { Err(ExtentError::Form) }
}

/// The one way to write what a name means that people wrote as they like: `[5,5]` is `[5]`, and attributes come in any order.
///
/// # Errors
/// What is wrong with it.
pub fn canonical(name: &[u8]) -> Result<Vec<u8>, ExtentError> {
    let (resource, extent) = read(name)?;
    Ok(extent.name_in(resource))
}

fn read(name: &[u8]) -> Result<(&[u8], Extent), ExtentError> {
    let resource = resource_of(name);
    let mut reader = Reader { rest: name.get(resource.len()..).unwrap_or_default() };
    let extent = match reader.rest.first() {
        _ if resource.is_empty() => return Err(ExtentError::Form),
        None => Extent::default(),
        Some(b'{') => reader.predicate()?,
        Some(_) => Extent::range(reader.interval()?),
    };
    if reader.rest.is_empty() { Ok((resource, extent)) } else { Err(ExtentError::Form) }
}

// ---------------------------------------------------------------------- text

/// Numbers are written as such where they could not be mistaken for text: below 2^56.
fn as_number(key: &[u8]) -> Option<u64> {
    key.try_into().ok().map(u64::from_be_bytes).filter(|number| *number < 1 << 56)
}

fn write_interval(text: &mut String, interval: &Interval) {
    if let Some(key) = interval.only() {
        text.push('[');
        write_key(text, key);
        text.push(']');
        return;
    }
    match interval.lo.strip_suffix(b"\0").filter(|_| as_number(&interval.lo).is_none()) {
        Some(above) => {
            text.push('(');
            write_key(text, above);
        }
        None => {
            text.push('[');
            write_key(text, &interval.lo);
        }
    }
    text.push(',');
    let Some(hi) = interval.hi() else { return text.push(')') };
    match hi.strip_suffix(b"\0").filter(|_| as_number(hi).is_none()) {
        Some(to) => {
            write_key(text, to);
            text.push(']');
        }
        None => {
            write_key(text, hi);
            text.push(')');
        }
    }
}

/// Bytes that stand for themselves in a key. `/` does not: by it names are taken apart.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!$'*+-.:;<>?@^_`|".contains(&byte)
}

fn write_key(text: &mut String, key: &[u8]) {
    const HEX: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    if let Some(number) = as_number(key) {
        let _ = fmt::write(text, format_args!("#{number}"));
        return;
    }
    for &byte in key {
        if is_plain(byte) {
            text.push(char::from(byte));
        } else {
            text.push('~');
            text.push(HEX[usize::from(byte >> 4)]);
            text.push(HEX[usize::from(byte & 15)]);
        }
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn next(&mut self) -> Result<u8, ExtentError> {
        let (first, rest) = self.rest.split_first().ok_or(ExtentError::Form)?;
        self.rest = rest;
        Ok(*first)
    }

    fn predicate(&mut self) -> Result<Extent, ExtentError> {
        let mut conditions = Vec::new();
        // The brace, and then an ampersand before each further one.
        while self.next()? != b'}' {
            if conditions.len() >= ATTRIBUTES_MAX {
                return Err(ExtentError::TooMany);
            }
            let attribute = self.key()?;
            if self.next()? != b'=' {
                return Err(ExtentError::Form);
            }
            let values = match self.rest.first() {
                Some(b'[' | b'(') => self.interval()?,
                _ => Interval::point(&self.key()?),
            };
            if !matches!(self.rest.first(), Some(b'&' | b'}')) {
                return Err(ExtentError::Form);
            }
            conditions.push(Condition { attribute, values });
        }
        Extent::of(conditions)
    }

    fn interval(&mut self) -> Result<Interval, ExtentError> {
        let open = self.next()?;
        let lo = self.key()?;
        let lo = match open {
            b'[' => Bound::Included(&*lo),
            b'(' => Bound::Excluded(&*lo),
            _ => return Err(ExtentError::Form),
        };
        let hi;
        let hi = match self.next()? {
            b']' if open == b'[' => lo,
            b',' => {
                hi = self.key()?;
                match self.next()? {
                    b')' if hi.is_empty() => Bound::Unbounded,
                    b')' => Bound::Excluded(&*hi),
                    b']' if !hi.is_empty() => Bound::Included(&*hi),
                    _ => return Err(ExtentError::Form),
                }
            }
            _ => return Err(ExtentError::Form),
        };
        Interval::new(lo, hi).ok_or(ExtentError::Empty)
    }

    fn key(&mut self) -> Result<Box<[u8]>, ExtentError> {
        if let Some(rest) = self.rest.strip_prefix(b"#") {
            self.rest = rest;
            let digits = rest.iter().position(|b| !b.is_ascii_digit()).unwrap_or(rest.len());
            let (digits, rest) = rest.split_at_checked(digits).ok_or(ExtentError::Form)?;
            self.rest = rest;
            let number = core::str::from_utf8(digits).ok().and_then(|d| d.parse::<u64>().ok());
            return number.map(|n| n.to_be_bytes().into()).ok_or(ExtentError::Form);
        }
        let mut key = Vec::new();
        while let Some((&first, rest)) = self.rest.split_first() {
            if first == b'~' {
                let (digits, rest) = rest.split_at_checked(2).ok_or(ExtentError::Form)?;
                let digits = core::str::from_utf8(digits).ok().filter(|d| !d.starts_with('+'));
                key.push(digits.and_then(|d| u8::from_str_radix(d, 16).ok()).ok_or(ExtentError::Form)?);
                self.rest = rest;
            } else if is_plain(first) {
                key.push(first);
                self.rest = rest;
            } else {
                break;
            }
        }
        Ok(key.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_has_one_form() {
        let form = |text: &str| canonical(text.as_bytes()).map(|name| String::from_utf8_lossy(&name).into_owned());
        for (written, meant) in [
            ("t", "t"),
            ("t[10,20)", "t[10,20)"),
            ("t(10,20]", "t(10,20]"),
            ("t[,20)", "t[,20)"),
            ("t[10,)", "t[10,)"),
            ("t[,)", "t"),
            ("t[5,5]", "t[5]"),
            ("t[5]", "t[5]"),
            ("t[]", "t[]"),
            ("t(,b)", "t(,b)"),
            ("t[#0,#4096)", "t[#0,#4096)"),
            ("t[#7]", "t[#7]"),
            ("t(#7,#9]", "t(#7,#9]"),
            ("t[~41~2f]", "t[A~2f]"),
            ("t[a~00,b)", "t(a,b)"),
            ("t{size=[1,5)&dept=sales}", "t{dept=sales&size=[1,5)}"),
            ("t{dept=[sales]}", "t{dept=sales}"),
            ("t{=[1,5)}", "t[1,5)"),
            ("t{=5&dept=}", "t{=5&dept=}"),
            ("t{size=[,)&dept=x}", "t{dept=x}"),
        ] {
            assert_eq!(form(written).as_deref(), Ok(meant), "{written}");
            assert_eq!(split(meant.as_bytes()).map(|(name, _)| name), Ok(&b"t"[..]), "{meant}");
            assert_eq!(split(written.as_bytes()).is_ok(), written == meant, "{written}");
        }
        for (written, why) in [
            ("[1,2)", ExtentError::Form),
            ("t[1,2", ExtentError::Form),
            ("t[1,2)x", ExtentError::Form),
            ("t(1)", ExtentError::Form),
            ("t[1,]", ExtentError::Form),
            ("t[1&2]", ExtentError::Form),
            ("t[~4,5)", ExtentError::Form),
            ("t[~+4,5)", ExtentError::Form),
            ("t[#,5)", ExtentError::Form),
            ("t[#99999999999999999999]", ExtentError::Form),
            ("t{a=1", ExtentError::Form),
            ("t{a}", ExtentError::Form),
            ("t{}", ExtentError::Form),
            ("t{a=1&&b=2}", ExtentError::Form),
            ("t[2,1)", ExtentError::Empty),
            ("t(1,1]", ExtentError::Empty),
            ("t{a=1&a=2}", ExtentError::Twice),
            ("t{a=1&b=1&c=1&d=1&e=1&f=1&g=1&h=1&i=1}", ExtentError::TooMany),
        ] {
            assert_eq!(form(written), Err(why), "{written}");
        }
    }
}
