//! How old a transaction is: by what the rules that prevent deadlocks decide who waits and who gives way.

/// When a transaction began, so that of any two one is older. It stays the same when the transaction is tried again, so that in the end
/// it is the oldest and is given way to.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Age {
    /// The SCN of its home when it first began: smaller is older.
    pub scn: u64,
    /// Of two that began under one SCN the smaller is older: at one home the first, of two homes the one where fewer have begun, else by chance. That two have the
    /// same is next to impossible, and harms nobody: neither waits for the other.
    pub tie: u64,
}

impl Age {
    /// Whether it began before the other.
    #[must_use]
    pub fn is_older_than(self, other: Age) -> bool {
        self < other
    }
}

#[cfg(test)]
mod tests {
    use super::Age;

    #[test]
    fn of_two_one_is_older() {
        let (first, second, third) = (Age { scn: 1, tie: 9 }, Age { scn: 2, tie: 3 }, Age { scn: 2, tie: 4 });
        assert!(first.is_older_than(second) && second.is_older_than(third) && first.is_older_than(third));
        assert!(!second.is_older_than(first) && !second.is_older_than(second));
    }
}
