//! Every Rust file opens by saying what it holds.

use super::{Problem, Tree};

pub(crate) fn check(tree: &Tree) -> Vec<Problem> {
    tree.rust()
        .filter(|(_, text)| {
            let opening = text.lines().find(|line| !line.starts_with("#!"));
            opening.and_then(|line| line.strip_prefix("//!")).is_none_or(|doc| doc.trim().is_empty())
        })
        .map(|(path, _)| {
            Problem::at(path, 1, "open the file with `//!` and what it holds, and why it is a file of its own")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_page_is_found() {
        let tree = Tree::of(&[
            ("crates/x/src/good.rs", "//! Holds the good.\nfn f() {}\n"),
            ("crates/x/src/bare.rs", "fn f() {}\n"),
            ("crates/x/src/empty.rs", "//!\nfn f() {}\n"),
            ("crates/x/src/nothing.rs", ""),
        ]);
        let found: Vec<_> = check(&tree).into_iter().map(|p| p.file).collect();
        assert_eq!(found, ["crates/x/src/bare.rs", "crates/x/src/empty.rs", "crates/x/src/nothing.rs"]);
    }
}
