//! A file holds one concern: at most 700 lines of Rust. Exceptions are listed with their reason and may only shrink.

use super::{Problem, Tree};

/// The most lines of a Rust file.
const BUDGET: usize = 700;
/// How far a listed file may lie below its own budget before that must be lowered.
const SLACK: usize = 40;

/// Files over the budget: path, lines allowed, why.
const EXCEPTIONS: &[(&str, usize, &str)] = &[];

pub(crate) fn check(tree: &Tree) -> Vec<Problem> {
    check_with(tree, EXCEPTIONS)
}

fn check_with(tree: &Tree, exceptions: &[(&str, usize, &str)]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (path, text) in tree.rust() {
        let lines = text.lines().count();
        match exceptions.iter().find(|(file, ..)| *file == path) {
            None if lines > BUDGET => {
                problems.push(Problem::at(
                    path,
                    BUDGET,
                    format!("{lines} lines, {BUDGET} allowed: split it by concern"),
                ));
            }
            Some((_, allowed, why)) if lines > *allowed => problems.push(Problem::at(
                path,
                *allowed,
                format!("{lines} lines, {allowed} allowed ({why}): it may only shrink"),
            )),
            Some((_, allowed, _)) if lines <= BUDGET || lines + SLACK < *allowed => problems.push(Problem::at(
                path,
                1,
                format!("{lines} lines now, {allowed} allowed: lower its entry in xtask/src/tidy/size.rs"),
            )),
            None | Some(_) => {}
        }
    }
    for (file, ..) in exceptions {
        if !tree.has(file) {
            problems.push(Problem::at(file, 1, "gone: drop its entry in xtask/src/tidy/size.rs"));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(lines: usize, exceptions: &[(&str, usize, &str)]) -> usize {
        check_with(&Tree::of(&[("a.rs", &"\n".repeat(lines))]), exceptions).len()
    }

    #[test]
    fn a_long_file_is_found() {
        assert_eq!(said(BUDGET, &[]), 0);
        assert_eq!(said(BUDGET + 1, &[]), 1);
    }

    #[test]
    fn an_exception_may_only_shrink() {
        assert_eq!(said(790, &[("a.rs", 800, "generated")]), 0);
        assert_eq!(said(801, &[("a.rs", 800, "generated")]), 1);
        assert_eq!(said(750, &[("a.rs", 800, "generated")]), 1, "lower the entry");
        assert_eq!(said(600, &[("a.rs", 800, "generated")]), 1, "drop the entry");
        assert_eq!(said(1, &[("b.rs", 800, "gone")]), 1);
    }
}
