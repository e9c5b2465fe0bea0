//! Links between pages lead somewhere, and every decision record stands in the list of them.

use super::{Problem, Tree};

const DECISIONS: &str = "docs/decisions/";
const LIST: &str = "docs/decisions/README.md";

pub(crate) fn check(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (path, text) in tree.texts().filter(|(path, _)| path.ends_with(".md")) {
        for (at, line) in text.lines().enumerate() {
            for target in targets(line) {
                if !tree.has(&resolve(path, target)) {
                    problems.push(Problem::at(path, at + 1, format!("the link to `{target}` leads nowhere")));
                }
            }
        }
    }
    let list = tree.text(LIST).unwrap_or_default();
    for path in tree.paths().filter(|path| path.starts_with(DECISIONS) && *path != LIST) {
        let name = &path[DECISIONS.len()..];
        if !list.contains(name) {
            problems.push(Problem::at(path, 1, format!("add it to {LIST}")));
        }
    }
    problems
}

/// The targets of the links in a line that stay inside the tree, without their anchors.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| {
        let target = rest.split(')').next()?.split('#').next()?;
        let inside = !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:");
        inside.then_some(target)
    })
}

/// A link of a page as a path from the root.
fn resolve(page: &str, target: &str) -> String {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> usize {
        check(&Tree::of(&[("docs/a.md", text), ("docs/b.md", ""), ("README.md", "")])).len()
    }

    #[test]
    fn a_broken_link_is_found() {
        assert_eq!(
            said(
                "[b](b.md), [b](./b.md#there), [r](../README.md), [d](../docs/), [w](https://example.org/x), [h](#here)"
            ),
            0
        );
        assert_eq!(said("[c](c.md)"), 1);
        assert_eq!(said("[r](README.md) and [b](b.md)"), 1);
    }

    #[test]
    fn a_decision_that_is_not_listed_is_found() {
        let listed = Tree::of(&[(LIST, "[1](0001-a.md)"), ("docs/decisions/0001-a.md", "")]);
        assert_eq!(check(&listed), []);
        let missed = Tree::of(&[(LIST, ""), ("docs/decisions/0001-a.md", "")]);
        assert_eq!(check(&missed).len(), 1);
    }
}
