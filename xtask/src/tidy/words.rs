//! Words that may not stand in the tree: what is unfinished, what only exists on one machine, what hides a test, what
//! waits for time to pass instead of for the thing that is awaited.

use super::{Problem, Tree};

/// A text that is found in Rust files outside comments and strings of this file, and what to do about it. The texts are
/// split so that this file does not break its own rule.
const IN_RUST: &[(&str, &str)] = &[
    (concat!("#[ig", "nore"), "a test that does not run proves nothing: mend it or drop it"),
    (concat!("TO", "DO"), "finish it, or open an issue and say in words what is absent"),
    (concat!("FIX", "ME"), "finish it, or open an issue and say in words what is wrong"),
    (concat!("XX", "X "), "finish it, or open an issue"),
    (concat!("to", "do!("), "finish it"),
    (concat!("unimpl", "emented!("), "finish it"),
    (concat!("db", "g!("), "drop it; tracing stays"),
];

/// A text that is found in no text file at all.
const ANYWHERE: &[(&str, &str)] = &[
    (concat!("/wo", "rk/"), "a path of one machine: make it relative, or a parameter"),
    (concat!("/ro", "ot/"), "a path of one machine: make it relative, or a parameter"),
    (concat!("<<<<", "<<<"), "a conflict left in the file"),
];

const SLEEPS: &[&str] = &[concat!("thread::sl", "eep("), concat!("time::sl", "eep(")];

/// Tests that may sleep: file, how often, why.
const MAY_SLEEP: &[(&str, usize, &str)] = &[(
    "crates/cli/tests/common/mod.rs",
    2,
    "between two looks at another process; and for a moment of the test's own choice",
)];

pub(crate) fn check(tree: &Tree) -> Vec<Problem> {
    check_with(tree, MAY_SLEEP)
}

fn check_with(tree: &Tree, may_sleep: &[(&str, usize, &str)]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (path, text) in tree.texts() {
        find(path, text, ANYWHERE, &mut problems);
        if path.ends_with(".rs") {
            find(path, text, IN_RUST, &mut problems);
            find_foreign_letters(path, text, &mut problems);
            find_sleeps(path, text, may_sleep, &mut problems);
        }
    }
    for (file, ..) in may_sleep {
        if !tree.has(file) {
            problems.push(Problem::at(file, 1, "gone: drop its entry in xtask/src/tidy/words.rs"));
        }
    }
    problems
}

fn find(path: &str, text: &str, words: &[(&str, &str)], problems: &mut Vec<Problem>) {
    for (at, line) in text.lines().enumerate() {
        for (word, advice) in words {
            if line.contains(word) {
                problems.push(Problem::at(path, at + 1, format!("`{}`: {advice}", word.trim())));
            }
        }
    }
}

fn find_foreign_letters(path: &str, text: &str, problems: &mut Vec<Problem>) {
    for (at, line) in text.lines().enumerate() {
        if let Some(letter) = line.chars().find(|c| !c.is_ascii()) {
            problems.push(Problem::at(path, at + 1, format!("{letter:?} is not ASCII: write it as an escape")));
        }
    }
}

/// A test that sleeps is slow where the machine is fast, and fails where it is slow.
fn find_sleeps(path: &str, text: &str, may_sleep: &[(&str, usize, &str)], problems: &mut Vec<Problem>) {
    let all_test = path.contains("/tests/") || path.ends_with("tests.rs");
    let mut in_test = all_test;
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        in_test |= line.trim() == "#[cfg(test)]";
        if in_test && SLEEPS.iter().any(|sleep| line.contains(sleep)) {
            found.push(at + 1);
        }
    }
    let allowed = may_sleep.iter().find(|(file, ..)| *file == path).map_or(0, |(_, count, _)| *count);
    for line in found.iter().skip(allowed) {
        problems.push(Problem::at(
            path,
            *line,
            "a test does not sleep: wait for the state itself, or list it with its reason in xtask/src/tidy/words.rs",
        ));
    }
    if found.len() < allowed {
        problems.push(Problem::at(path, 1, format!("sleeps {} times, {allowed} listed: lower its entry", found.len())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(path: &str, text: &str) -> usize {
        check_with(&Tree::of(&[(path, text)]), &[]).len()
    }

    #[test]
    fn unfinished_work_is_found_in_code_and_may_be_spoken_of_in_prose() {
        for (word, _) in IN_RUST {
            assert_eq!(said("crates/x/src/a.rs", &format!("fn f() {{}}\n// {word}\n")), 1, "{word}");
            assert_eq!(said("docs/a.md", &format!("{word}\n")), 0, "{word}");
        }
    }

    #[test]
    fn paths_of_a_machine_are_found_everywhere() {
        for (word, _) in ANYWHERE {
            assert_eq!(said("docs/a.md", &format!("see {word}x\n")), 1, "{word}");
        }
    }

    #[test]
    fn letters_beyond_ascii_are_found_in_code() {
        assert_eq!(said("crates/x/src/a.rs", "// a \u{2192} b\n"), 1);
        assert_eq!(said("docs/a.md", "a \u{2192} b\n"), 0);
    }

    #[test]
    fn a_test_that_sleeps_is_found_unless_listed() {
        let sleep = SLEEPS[0];
        let text = format!("fn product() {{ {sleep}d); }}\n#[cfg(test)]\nmod tests {{\n fn t() {{ {sleep}d); }}\n}}\n");
        assert_eq!(said("crates/x/src/a.rs", &text), 1);
        assert_eq!(said("crates/x/tests/a.rs", &text), 2);
        let tree = Tree::of(&[("crates/x/src/a.rs", &text)]);
        assert_eq!(check_with(&tree, &[("crates/x/src/a.rs", 1, "waits for a lease")]).len(), 0);
        assert_eq!(check_with(&tree, &[("crates/x/src/a.rs", 2, "waits for a lease")]).len(), 1);
        assert_eq!(check_with(&tree, &[("crates/x/src/b.rs", 1, "gone")]).len(), 2);
    }
}
