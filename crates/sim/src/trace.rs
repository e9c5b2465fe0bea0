//! What happened, as a hash that two runs of one seed must agree on, and as text where somebody wants to read it.

use core::fmt::Arguments;

/// The trace of a run.
#[derive(Default)]
pub(crate) struct Trace {
    hash: u64,
    /// Lines, where they are wanted.
    lines: Option<Vec<String>>,
}

impl Trace {
    pub(crate) fn new(with_text: bool) -> Trace {
        Trace { hash: 0, lines: with_text.then(Vec::new) }
    }

    /// Takes a number into the hash.
    pub(crate) fn mix(&mut self, number: u64) {
        self.hash = (self.hash.rotate_left(23) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    pub(crate) fn wants_text(&self) -> bool {
        self.lines.is_some()
    }

    /// A line, at a true time in nanoseconds.
    pub(crate) fn say(&mut self, now: u64, what: Arguments<'_>) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>12.6} {what}", now as f64 / 1e9));
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}
