//! Tables and the words in their cells.

use std::{collections::BTreeMap, ops::Range};

use cladnet_model::marks::is_mark;
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, presets};
use jiff::Timestamp;

/// Rows under a head, every cell one line.
pub(crate) struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
    /// Columns of figures, which stand at the right.
    figures: Range<usize>,
    /// Said instead of a table without rows.
    empty: &'static str,
    /// The last column is prose: on a terminal it takes what the others leave of a line, and goes on below.
    ends_in_prose: bool,
    /// Heads of columns that are left out, one after the other, until a row fits into a terminal's line.
    spare: &'static [&'static str],
}

/// Where a table is shown.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Screen {
    /// Lines around the cells help eyes and hinder `awk`. They are left out where a row does not fit with them.
    pub(crate) ruled: bool,
    /// In columns; none if no person looks on.
    pub(crate) width: Option<u16>,
}

/// Columns of prose that are worth reading.
const WORDS: usize = 16;
/// Longest id, in columns; what is longer is an address of a page and the like, for which nothing is left out.
const ID: usize = 48;

impl Table {
    pub(crate) fn new(head: impl IntoIterator<Item = impl Into<String>>, empty: &'static str) -> Self {
        Self {
            head: head.into_iter().map(|name| one_line(&name.into())).collect(),
            rows: Vec::new(),
            figures: 0..0,
            empty,
            ends_in_prose: false,
            spare: &[],
        }
    }

    /// One row for each item.
    pub(crate) fn of<T, const N: usize>(
        head: [&'static str; N],
        empty: &'static str,
        items: &[T],
        cells: impl Fn(&T) -> [String; N],
    ) -> Self {
        let mut table = Self::new(head, empty);
        items.iter().for_each(|item| table.row(cells(item)));
        table
    }

    /// The same with figures in these columns.
    pub(crate) fn with_figures(self, columns: Range<usize>) -> Self {
        Self { figures: columns, ..self }
    }

    /// One thing with its fields below each other.
    pub(crate) fn sheet(fields: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        let mut table = Self::new([""; 0], "").ending_in_prose();
        fields.into_iter().for_each(|(name, value)| table.row([name.to_owned(), value]));
        table
    }

    /// The last column may be long.
    pub(crate) fn ending_in_prose(self) -> Self {
        Self { ends_in_prose: true, ..self }
    }

    /// Columns that a narrow terminal does without, the first one first; programs have them all.
    pub(crate) fn sparing(self, columns: &'static [&'static str]) -> Self {
        Self { spare: columns, ..self }
    }

    /// An empty cell shows `-`, so that columns stay countable.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| either(&one_line(&cell), "-")).collect());
    }

    /// Without lines, as wide as it comes out.
    pub(crate) fn plain(self) -> String {
        self.render(Screen::default())
    }

    pub(crate) fn render(mut self, screen: Screen) -> String {
        if self.rows.is_empty() && !self.empty.is_empty() {
            return self.empty.to_owned();
        }
        if self.fits_well(screen) {
            return self.text(screen);
        }
        let plain = Screen { ruled: false, ..screen };
        for column in self.spare {
            if self.fits_well(plain) {
                break;
            }
            self.leave_out(column);
        }
        // Where prose has no room it runs on, as long as it is: letters below each other are nothing to read.
        self.ends_in_prose &= self.fits(plain);
        self.text(plain)
    }

    /// Whether a row fits into a line, with some words of prose where there is any.
    fn fits(&self, screen: Screen) -> bool {
        self.fits_with(screen, WORDS)
    }

    /// The same, with ids in the prose unbroken: for that other columns are spared.
    fn fits_well(&self, screen: Screen) -> bool {
        let prose = self.rows.iter().filter_map(|row| row.last()).flat_map(|cell| cell.split(' '));
        let id = prose.map(wide).filter(|width| *width <= ID).max().unwrap_or(0);
        self.fits_with(screen, if self.spare.is_empty() { WORDS } else { WORDS.max(id) })
    }

    fn fits_with(&self, screen: Screen, words: usize) -> bool {
        let Some(most) = screen.width.map(usize::from) else { return true };
        if !self.ends_in_prose {
            return wide(&self.text(screen)) <= most;
        }
        let columns = self.head.len().max(self.rows.iter().map(Vec::len).max().unwrap_or(0));
        let rows = || std::iter::once(&self.head).chain(&self.rows);
        let widest = |column: usize| rows().filter_map(|row| row.get(column)).map(|cell| wide(cell)).max().unwrap_or(0);
        // Two spaces between columns; with lines one on either side, and the line.
        let between = if screen.ruled { 3 } else { 2 };
        let others: usize = (0..columns.saturating_sub(1)).map(|column| widest(column) + between).sum();
        let lines = if screen.ruled { 4 } else { 0 };
        others + widest(columns.saturating_sub(1)).min(words) + lines <= most
    }

    fn leave_out(&mut self, column: &str) {
        let Some(at) = self.head.iter().position(|head| head == column) else { return };
        self.head.remove(at);
        self.rows.iter_mut().for_each(|row| drop(row.remove(at)));
        let shifted = |bound: usize| if bound > at { bound - 1 } else { bound };
        self.figures = shifted(self.figures.start)..shifted(self.figures.end);
    }

    fn text(&self, Screen { ruled, width }: Screen) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(if ruled { presets::UTF8_FULL_CONDENSED } else { presets::NOTHING });
        table.set_content_arrangement(ContentArrangement::Disabled);
        if !self.head.is_empty() {
            table.set_header(&self.head);
        }
        table.add_rows(&self.rows);
        for column in self.figures.clone() {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        if !ruled {
            table.column_iter_mut().for_each(|column| {
                column.set_padding((0, 2));
            });
        }
        if let Some(width) = width.filter(|_| self.ends_in_prose) {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
            let prose = table.column_count().saturating_sub(1);
            table.column_iter_mut().take(prose).for_each(|column| {
                column.set_constraint(ColumnConstraint::ContentWidth);
            });
        }
        table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
    }
}

/// The longest line, of characters that are mostly one column wide.
fn wide(text: &str) -> usize {
    text.lines().map(|line| line.chars().count()).max().unwrap_or(0)
}

/// Names and descriptions are other people's text: no line break, escape sequence or turn of the direction of writing
/// reaches the terminal, each is spelt out as `\n` or `\u{202e}`.
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if is_mark(c) { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

/// The text, or what to say for an empty one.
fn either(text: &str, otherwise: &str) -> String {
    if text.is_empty() { otherwise.to_owned() } else { text.to_owned() }
}

/// `a=1 b=2`.
pub(crate) fn labels(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
}

/// How long ago, or how long from now; empty for no moment.
pub(crate) fn age(moment: Option<prost_types::Timestamp>, now: Timestamp) -> String {
    let moment = moment.and_then(|at| Timestamp::new(at.seconds, at.nanos).ok());
    let Some(moment) = moment else { return String::new() };
    let elapsed = now.duration_since(moment);
    let text = span(elapsed.abs().as_secs());
    if elapsed.is_negative() { format!("in {text}") } else { format!("{text} ago") }
}

fn span(seconds: i64) -> String {
    match seconds {
        ..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// `1.234 ms`; empty for zero, which means never measured.
pub(crate) fn milliseconds(microseconds: u32) -> String {
    match microseconds {
        0 => String::new(),
        _ => format!("{:.3} ms", f64::from(microseconds) / 1_000.0),
    }
}

/// `12 B`, `3.4 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = (u64::BITS - count.leading_zeros()).saturating_sub(1) / 10;
    let unit = unit.min(4);
    match unit {
        0 => format!("{count} B"),
        #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
        _ => format!("{:.1} {}", count as f64 / f64::powi(1024.0, unit as i32), UNITS[unit as usize]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_table_has_two_spaces_between_columns_and_none_at_the_end() {
        let table = Table::of(["ID", "NAME"], "none", &[("a", ""), ("bcd", "x")], |(id, name)| {
            [(*id).to_owned(), (*name).to_owned()]
        });
        assert_eq!(table.render(Screen::default()), "ID   NAME\na    -\nbcd  x");
    }

    #[test]
    fn an_empty_table_is_a_sentence() {
        assert_eq!(
            Table::of(["ID"], "no networks", &[(); 0], |()| [String::new()]).render(Screen::default()),
            "no networks"
        );
    }

    #[test]
    fn a_sheet_has_a_field_on_each_line() {
        assert_eq!(
            Table::sheet([("id", "prod".to_owned()), ("name", String::new())]).render(Screen::default()),
            "id    prod\nname  -"
        );
    }

    #[test]
    fn a_terminal_gets_lines_where_they_fit_and_prose_that_goes_on_below() {
        let on = |width| Screen { ruled: true, width: Some(width) };
        let table = || Table::of(["ID", "NAME"], "", &["a-rather-long-id"], |id| [(*id).to_owned(), "x".to_owned()]);
        assert!(table().render(on(30)).starts_with('┌'));
        assert_eq!(table().render(on(24)), "ID                NAME\na-rather-long-id  x");
        let sheet = |width| Table::sheet([("why", "one two three four five six".to_owned())]).render(on(width));
        assert_eq!(sheet(24), "why  one two three\n     four five six");
        let text = sheet(30);
        assert!(text.starts_with('┌') && text.lines().all(|line| line.chars().count() <= 30), "{text}");
        assert!(text.lines().count() > 3 && text.contains("three"), "{text}");
    }

    #[test]
    fn prose_is_never_squeezed_into_single_letters() {
        let table = |on: u16| {
            let table = Table::of(["CLASS", "RULE", "SOURCE"], "", &["internet-egress"], |class| {
                [
                    (*class).to_owned(),
                    "shipped/aws/internet-egress/14".to_owned(),
                    "what a page says of it, in words".to_owned(),
                ]
            });
            table.ending_in_prose().sparing(&["RULE"]).render(Screen { ruled: true, width: Some(on) })
        };
        assert!(table(100).starts_with('┌') && table(100).contains("RULE"));
        for (width, has_rule, lines) in [(68, true, 3), (60, false, 2)] {
            let text = table(width);
            assert!(text.lines().all(|line| line.chars().count() <= width.into()), "{text}");
            assert!(text.contains("RULE") == has_rule && text.lines().count() == lines, "{text}");
        }
        assert_eq!(table(30).lines().count(), 2, "too narrow for anything: {}", table(30));
    }

    #[test]
    fn ids_at_the_end_are_not_broken_while_a_column_can_be_spared() {
        let id = "shipped/aws/cross-region-private/12";
        let table = |id: &str, width| {
            let table = Table::of(["ENDPOINT", "WAY", "CLASS", "CONFIDENCE", "RULE"], "", &[id], |id| {
                ["203.0.113.2:8055", "there", "cross-region-private", "medium", *id].map(str::to_owned)
            });
            table.ending_in_prose().sparing(&["CONFIDENCE", "CLASS"]).render(Screen { ruled: true, width: Some(width) })
        };
        for (width, columns) in [(120, 5), (90, 4), (80, 3), (62, 3)] {
            let text = table(id, width);
            assert!(text.contains(id) && text.lines().all(|line| wide(line) <= width.into()), "{width}:\n{text}");
            let heads = ["ENDPOINT", "WAY", "CLASS", "CONFIDENCE", "RULE"];
            assert_eq!(heads.iter().filter(|head| text.contains(*head)).count(), columns, "{width}:\n{text}");
        }
        let page = format!("https://example.com/{}", "a".repeat(60));
        assert!(table(&page, 80).contains("CLASS"), "it breaks anyhow:\n{}", table(&page, 80));
    }

    #[test]
    fn a_narrow_terminal_does_without_the_columns_that_can_be_spared() {
        let table = || {
            let table = Table::of(["ID", "NOTE", "SENT", "AGE"], "", &["prod"], |id| {
                [(*id).to_owned(), "a note".to_owned(), "12".to_owned(), "5s ago".to_owned()]
            });
            table.with_figures(2..3).sparing(&["AGE", "NOTE"])
        };
        let on = |width| table().render(Screen { ruled: true, width });
        assert!(on(None).starts_with('┌') && on(Some(80)).contains("AGE"));
        assert_eq!(on(Some(20)), "ID    NOTE    SENT\nprod  a note    12");
        assert_eq!(on(Some(15)), "ID    SENT\nprod    12");
        assert_eq!(on(Some(5)), "ID    SENT\nprod    12", "what cannot be spared stays");
    }

    #[test]
    fn marks_of_others_are_spelt_out_and_columns_stay_where_they_are() {
        let names = ["a\x1b[31m\nb\u{9b}1m", "safe\u{202e}gnp.exe\u{2069}", "שרת"];
        let table = Table::of(["NAME", "ADDRESS"], "", &names, |name| [(*name).to_owned(), "10.0.0.1".to_owned()]);
        let shown = table.render(Screen::default());
        assert!(!shown.chars().any(|c| c != '\n' && is_mark(c)), "{shown:?}");
        let lines: Vec<_> = shown.lines().collect();
        assert!(lines[1].starts_with(r"a\u{1b}[31m\nb\u{9b}1m  "), "{shown}");
        assert!(lines[2].starts_with(r"safe\u{202e}gnp.exe\u{2069}  "), "{shown}");
        let columns: Vec<_> =
            lines[1..].iter().map(|line| line.find("10.0.0.1").map(|at| line[..at].chars().count())).collect();
        assert!(columns.iter().all(|column| *column == columns[0] && column.is_some()), "{columns:?}");
        assert!(lines[3].starts_with("שרת "), "letters stay: {shown}");
    }

    #[test]
    fn moments_are_told_from_now() {
        let now = Timestamp::from_second(100_000).unwrap();
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        assert_eq!(age(at(99_995), now), "5s ago");
        assert_eq!(age(at(103_600), now), "in 1h 0m");
        assert_eq!(age(at(100_000 - 90_000), now), "1d 1h ago");
        assert_eq!(age(None, now), "");
    }

    #[test]
    fn quantities_have_units() {
        assert_eq!([bytes(0), bytes(1023), bytes(1536), bytes(5 << 30)], ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"]);
        assert_eq!([milliseconds(0), milliseconds(1234)], ["", "1.234 ms"]);
    }
}
