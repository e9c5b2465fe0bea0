//! Expected and actual output side by side.

/// The lines of both, each marked ` ` in both, `-` only expected, `+` only seen.
pub(crate) fn diff(expected: &[String], actual: &[String]) -> String {
    // Longest common subsequence: `common[i][j]` of the tails from i and j. Outputs are a few dozen lines.
    let (n, m) = (expected.len(), actual.len());
    let mut common = vec![vec![0usize; m + 1]; n + 1];
    for i in (0..n).rev() {
        for j in (0..m).rev() {
            common[i][j] = if expected[i] == actual[j] {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut text) = (0, 0, String::new());
    while i < n || j < m {
        let (mark, line) = if i < n && j < m && expected[i] == actual[j] {
            (i, j) = (i + 1, j + 1);
            (' ', &actual[j - 1])
        } else if j == m || (i < n && common[i + 1][j] >= common[i][j + 1]) {
            i += 1;
            ('-', &expected[i - 1])
        } else {
            j += 1;
            ('+', &actual[j - 1])
        };
        text.push_str(&format!("  {mark} {line}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_what_differs() {
        let lines = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(diff(&lines("a b c"), &lines("a x c d")), "    a\n  - b\n  + x\n    c\n  + d\n");
        assert_eq!(diff(&[], &[]), "");
    }
}
