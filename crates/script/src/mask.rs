//! Tokens differ from run to run; what a script's output says of them is which are the same. A mask numbers them in the
//! order they appear: `token=1099511627777` becomes `token=#1`.

/// Numbers tokens as they appear.
#[derive(Clone, Default, Debug)]
pub struct TokenMask {
    seen: Vec<u64>,
}

impl TokenMask {
    /// A mask that has seen none.
    #[must_use]
    pub fn new() -> TokenMask {
        TokenMask::default()
    }

    /// A line with its tokens numbered. Only whole words `token=DIGITS` are tokens; a value may hold the same text.
    #[must_use]
    pub fn line(&mut self, line: &str) -> String {
        let words =
            line.split(' ').map(|word| match word.strip_prefix("token=").and_then(|digits| digits.parse().ok()) {
                Some(token) => format!("token=#{}", self.number(token)),
                None => word.to_owned(),
            });
        words.collect::<Vec<_>>().join(" ")
    }

    /// Every line of a text.
    #[must_use]
    pub fn text(&mut self, text: &str) -> String {
        text.lines().map(|line| self.line(line) + "\n").collect()
    }

    /// The tokens seen, in the order they appeared.
    #[must_use]
    pub fn seen(&self) -> &[u64] {
        &self.seen
    }

    fn number(&mut self, token: u64) -> usize {
        let at = self.seen.iter().position(|t| *t == token).unwrap_or_else(|| {
            self.seen.push(token);
            self.seen.len() - 1
        });
        at + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_token_has_the_same_number() {
        let mut mask = TokenMask::new();
        assert_eq!(
            mask.text("a: x granted PR token=99\na:  token=7 value=token=5\n"),
            "a: x granted PR token=#1\na:  token=#2 value=token=5\n"
        );
        assert_eq!(mask.line("b: x granted EX token=99 invalid"), "b: x granted EX token=#1 invalid");
        assert_eq!(mask.seen(), [99, 7]);
    }
}
