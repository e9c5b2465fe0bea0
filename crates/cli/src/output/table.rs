//! Aligned columns.

/// A table for people: a heading, rows, each column as wide as its widest cell.
#[derive(Debug)]
pub(crate) struct Table {
    heads: &'static [&'static str],
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table. A heading that starts with `>` is a column of numbers: aligned to the right.
    pub(crate) fn new(heads: &'static [&'static str]) -> Table {
        Table { heads, rows: Vec::new() }
    }

    /// One more row; cells beyond the headings are not shown.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// As text, each line ended. Only the heading where there are no rows.
    pub(crate) fn text(&self) -> String {
        let heads: Vec<String> = self.heads.iter().map(|head| head.trim_start_matches('>').to_owned()).collect();
        let widths: Vec<usize> = (0..heads.len()).map(|column| self.width(column, &heads)).collect();
        let mut text = self.line(&heads, &widths);
        for row in &self.rows {
            text.push_str(&self.line(row, &widths));
        }
        text
    }

    fn width(&self, column: usize, heads: &[String]) -> usize {
        let cells = self.rows.iter().filter_map(|row| row.get(column)).chain(heads.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    }

    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for ((cell, width), head) in cells.iter().zip(widths).zip(self.heads) {
            let pad = " ".repeat(width.saturating_sub(cell.chars().count()));
            let number = head.starts_with('>');
            line.push_str(if number { &pad } else { cell });
            line.push_str(if number { cell } else { &pad });
            line.push_str("  ");
        }
        line.truncate(line.trim_end().len());
        line.push('\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["NAME", ">LOCKS", "MODE"]);
        table.row(vec!["orders/page:5".into(), "7".into(), "EX".into()]);
        table.row(vec!["a".into(), "12345678".into(), String::new()]);
        let lines = ["NAME              LOCKS  MODE\n", "orders/page:5         7  EX\n", "a              12345678\n"];
        assert_eq!(table.text(), lines.concat());
    }
}
