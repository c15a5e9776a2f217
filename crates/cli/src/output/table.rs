//! Tables. One look for all of them, fitted to the terminal's width where there is one.

use std::fmt;

use comfy_table::{Cell, CellAlignment, ContentArrangement, presets};

/// A table under construction.
pub(crate) struct Table {
    inner: comfy_table::Table,
}

impl Table {
    /// A table with these columns and no row yet.
    pub(crate) fn new(columns: &[&str]) -> Table {
        let mut inner = comfy_table::Table::new();
        inner.load_style(presets::UTF8_FULL_CONDENSED);
        inner.set_content_arrangement(ContentArrangement::Dynamic);
        inner.set_header(columns.iter().copied());
        Table { inner }
    }

    /// Adds a row. Cells that hold a number are aligned to the right.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.inner.add_row(cells.into_iter().map(|text| {
            let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let alignment = if is_number { CellAlignment::Right } else { CellAlignment::Left };
            Cell::new(text).set_alignment(alignment)
        }));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn a_table_has_a_header_and_a_line_for_each_row() {
        let mut table = Table::new(&["key", "value"]);
        table.row(vec!["ana".to_owned(), "4".to_owned()]);
        table.row(vec!["d".to_owned(), "eight".to_owned()]);
        let text = table.to_string();
        assert_eq!(
            text,
            "\
┌─────┬───────┐
│ key ┆ value │
╞═════╪═══════╡
│ ana ┆     4 │
│ d   ┆ eight │
└─────┴───────┘"
        );
    }
}
