//! Every rule of `docs/semantics.md` is cited at the line that decides it and shown by a scenario, and every rule that
//! is cited anywhere exists.
//!
//! A rule is defined where its number opens a line (`[GRANT-1]`, after `-`, `#`, `*` or `|`). It is shown by a scenario
//! file that names it; one that no scenario can show names tests instead, in its paragraph: ``proven by: `path::test` ``.

use std::collections::{BTreeMap, BTreeSet};

use super::{Problem, Tree};

const PAGE: &str = "docs/semantics.md";
const SCENARIOS: &str = "crates/testkit/testdata/";
const PROVEN: &str = "proven by:";

/// Where a rule is defined, and the tests it names.
struct Rule<'a> {
    line: usize,
    proofs: Vec<&'a str>,
}

pub(crate) fn check(tree: &Tree) -> Vec<Problem> {
    let Some(page) = tree.text(PAGE) else {
        return vec![Problem::at(PAGE, 1, "missing: the rules of the lock manager stand there")];
    };
    let mut problems = Vec::new();
    let rules = defined(page, &mut problems);
    if rules.is_empty() {
        problems.push(Problem::at(
            PAGE,
            1,
            "defines no rule: a definition is a line that opens with its number, as `[GRANT-1]`",
        ));
    }
    let cited = cited_in_code(tree);
    let shown = shown_in_scenarios(tree);
    let tests = tests(tree);
    for (name, rule) in &rules {
        if !cited.contains(name) {
            problems.push(Problem::at(
                PAGE,
                rule.line,
                format!("[{name}] is cited nowhere in code: cite it where it is decided"),
            ));
        }
        for proof in &rule.proofs {
            let function = proof.rsplit("::").next().unwrap_or(proof);
            if !tests.contains(function) {
                problems.push(Problem::at(
                    PAGE,
                    rule.line,
                    format!("[{name}] is proven by `{proof}`, which is no test"),
                ));
            }
        }
        if rule.proofs.is_empty() && !shown.contains(name) {
            problems.push(Problem::at(
                PAGE,
                rule.line,
                format!(
                    "[{name}] is shown by no scenario in {SCENARIOS}: name it in one, or write `{PROVEN} `path::test``"
                ),
            ));
        }
    }
    unknown(tree, &rules, &mut problems);
    problems
}

fn defined<'a>(page: &'a str, problems: &mut Vec<Problem>) -> BTreeMap<String, Rule<'a>> {
    let mut rules: BTreeMap<String, Rule<'a>> = BTreeMap::new();
    let mut current = None;
    for (at, line) in page.lines().enumerate() {
        let opening = line.trim_start_matches([' ', '-', '*', '#', '|', '`']);
        if let Some((0, name)) = names(opening).next() {
            if rules.contains_key(&name) {
                problems.push(Problem::at(PAGE, at + 1, format!("[{name}] is defined twice")));
            }
            rules.insert(name.clone(), Rule { line: at + 1, proofs: Vec::new() });
            current = Some(name);
        }
        let rule = current.as_ref().and_then(|name| rules.get_mut(name));
        if let (Some(rule), Some((_, proofs))) = (rule, line.split_once(PROVEN)) {
            rule.proofs.extend(proofs.split('`').skip(1).step_by(2));
        }
    }
    rules
}

fn cited_in_code(tree: &Tree) -> BTreeSet<String> {
    sources(tree)
        .flat_map(|(_, text)| text.lines())
        .filter_map(|line| line.split_once("//"))
        // Documentation speaks of rules; a plain comment stands at the line that decides, and so does the documentation
        // of a function that opens with the number.
        .filter(|(_, comment)| !comment.starts_with(['/', '!']) || comment.starts_with("/ ["))
        .flat_map(|(_, comment)| names(comment).map(|(_, name)| name).collect::<Vec<_>>())
        .collect()
}

fn shown_in_scenarios(tree: &Tree) -> BTreeSet<String> {
    tree.texts()
        .filter(|(path, _)| path.starts_with(SCENARIOS))
        .flat_map(|(_, text)| names(text).map(|(_, name)| name).collect::<Vec<_>>())
        .collect()
}

/// The names of all test functions.
fn tests(tree: &Tree) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    for (_, text) in tree.rust() {
        let mut announced = false;
        for line in text.lines().map(str::trim) {
            if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                announced = true;
            } else if let Some((_, rest)) = line.split_once("fn ") {
                if announced {
                    found.extend(rest.split('(').next());
                }
                announced = false;
            }
        }
    }
    found
}

/// Rules cited in code, scenarios or pages that nothing defines.
fn unknown(tree: &Tree, rules: &BTreeMap<String, Rule<'_>>, problems: &mut Vec<Problem>) {
    let known: BTreeSet<&str> = rules.keys().filter_map(|name| name.split('-').next()).collect();
    for (path, text) in tree.texts() {
        let ours = path.starts_with("crates/") || path.starts_with("docs/") || !path.contains('/');
        if !ours {
            continue;
        }
        for (at, line) in text.lines().enumerate() {
            for (_, name) in names(line) {
                let family = name.split('-').next().unwrap_or_default();
                if !rules.contains_key(&name) && (path.ends_with(".rs") || known.contains(family)) {
                    problems.push(Problem::at(path, at + 1, format!("[{name}] is no rule of {PAGE}")));
                }
            }
        }
    }
}

fn sources(tree: &Tree) -> impl Iterator<Item = (&str, &str)> {
    tree.rust().filter(|(path, _)| path.starts_with("crates/") && path.contains("/src/"))
}

/// Rule numbers in a text, `[CODE-n]`, each with its place.
fn names(text: &str) -> impl Iterator<Item = (usize, String)> {
    text.match_indices('[').filter_map(|(at, _)| {
        let (inner, _) = text.get(at + 1..)?.split_once(']')?;
        let (code, number) = inner.split_once('-')?;
        let is_code = code.len() >= 2 && code.bytes().all(|b| b.is_ascii_uppercase());
        let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        (is_code && is_number).then(|| (at, inner.to_string()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE_TEXT: &str = "# Rules\n\n- **[GRANT-1]** First come.\n- **[GRANT-2]** See [GRANT-1].\n";
    const CODE: &str = "//! Page.\n// [GRANT-1] first.\n// [GRANT-2] then.\n";

    fn said(page: &str, code: &str, scenario: &str) -> Vec<String> {
        let tree = Tree::of(&[
            (PAGE, page),
            ("crates/table/src/grant.rs", code),
            ("crates/testkit/testdata/grant.txt", scenario),
        ]);
        check(&tree).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_rule_cited_and_shown_passes() {
        assert_eq!(said(PAGE_TEXT, CODE, "# [GRANT-1] [GRANT-2]\n"), Vec::<String>::new());
    }

    #[test]
    fn a_rule_that_no_code_cites_is_found() {
        let said = said(PAGE_TEXT, "//! Page.\n// [GRANT-1] first.\n", "# [GRANT-1] [GRANT-2]\n");
        assert_eq!(said, ["docs/semantics.md:4: [GRANT-2] is cited nowhere in code: cite it where it is decided"]);
    }

    #[test]
    fn a_citation_in_documentation_or_a_text_does_not_count() {
        let code = "//! [GRANT-1]\n/// See [GRANT-1].\nlet s = \"[GRANT-2]\";\n";
        assert_eq!(said(PAGE_TEXT, code, "# [GRANT-1] [GRANT-2]\n").len(), 2);
    }

    #[test]
    fn a_rule_that_nothing_shows_is_found() {
        assert_eq!(said(PAGE_TEXT, CODE, "# [GRANT-1]\n").len(), 1);
    }

    #[test]
    fn a_named_test_shows_a_rule_if_it_exists() {
        let page = "- [GRANT-1] First come. proven by: `table::grant::tests::first`\n";
        let code = "// [GRANT-1]\n#[test]\nfn first() {}\nfn other() {}\n";
        assert_eq!(said(page, code, ""), Vec::<String>::new());
        assert_eq!(said(&page.replace("::first", "::other"), code, "").len(), 1, "no test");
        assert_eq!(said(&page.replace("::first", "::gone"), code, "").len(), 1, "not there");
    }

    #[test]
    fn an_unknown_or_doubled_rule_is_found() {
        assert_eq!(said(PAGE_TEXT, &format!("{CODE}// [GRANT-9] gone\n"), "[GRANT-1] [GRANT-2]").len(), 1);
        assert_eq!(said(&format!("{PAGE_TEXT}- [GRANT-1] again\n"), CODE, "[GRANT-1] [GRANT-2]").len(), 1);
        assert_eq!(check(&Tree::of(&[])).len(), 1, "no page at all");
        assert_eq!(said("# Rules\n", "//! Page.\n", "").len(), 1, "an empty page");
    }
}
