//! Round trips of all pairs as figures in a square, coloured by their size where it is a terminal that shows them.

use std::fmt::Write as _;

/// From quick to slow, of the 256 colours of terminals.
const COLOURS: [u8; 9] = [22, 28, 64, 100, 136, 172, 166, 160, 124];
/// What the quickest colour stands for; each next one takes twice as long.
const FIRST_MS: f64 = 2.0;
const CELL: usize = 4;

/// Milliseconds from each machine (row) to each (column); none where there was no reply.
pub struct Square<'a> {
    pub title: &'a str,
    pub cells: Vec<Vec<Option<f64>>>,
}

/// Squares of the same machines, side by side.
pub fn side_by_side(names: &[&str], squares: &[Square<'_>], coloured: bool) -> String {
    let label = names.iter().map(|name| name.len()).max().unwrap_or(0) + CELL;
    let mut text = " ".repeat(label);
    for square in squares {
        write!(text, "  {:width$}", square.title, width = names.len() * CELL).expect("a string takes all");
    }
    line(&mut text, label, squares, |n| (1..=n).map(|column| format!("{column:>CELL$}")).collect());
    for (row, name) in names.iter().enumerate() {
        write!(text, "{name:<width$}{:>3} ", row + 1, width = label - CELL).expect("a string takes all");
        let figures: Vec<String> = squares
            .iter()
            .map(|square| square.cells[row].iter().map(|cell| figure(*cell, coloured)).collect())
            .collect();
        text = text + "  " + figures.join("  ").trim_end() + "\n";
    }
    text
}

fn line(text: &mut String, label: usize, squares: &[Square<'_>], columns: impl Fn(usize) -> String) {
    *text = format!("{}\n{}", text.trim_end(), " ".repeat(label));
    for square in squares {
        *text = format!("{text}  {}", columns(square.cells.len()));
    }
    text.push('\n');
}

fn figure(cell: Option<f64>, coloured: bool) -> String {
    let Some(milliseconds) = cell else { return format!("{:>CELL$}", "·") };
    let text = format!("{milliseconds:>CELL$.0}");
    if !coloured {
        return text;
    }
    let step = (milliseconds / FIRST_MS).log2().clamp(0.0, COLOURS.len() as f64 - 1.0);
    format!("\u{1b}[48;5;{}m{text}\u{1b}[0m", COLOURS[step as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn twenty() -> Vec<Vec<Option<f64>>> {
        (0..20).map(|row| (0..20).map(|column| (row != column).then_some(f64::from(row * column))).collect()).collect()
    }

    #[test]
    fn two_squares_of_twenty_fit_two_hundred_columns() {
        let names = ["gcp-losangeles"; 20];
        let squares = ["basic", "cost-prioritized"].map(|title| Square { title, cells: twenty() });
        let text = side_by_side(&names, &squares, false);
        assert_eq!(text.lines().count(), 22);
        assert!(text.lines().all(|line| line.chars().count() <= 200), "{text}");
        let last = text.lines().last().expect("it has lines");
        assert!(last.starts_with("gcp-losangeles 20 ") && last.matches("342").count() == 2, "{last}");
        assert!(!text.contains('\u{1b}'), "no colours where nobody asked for them");
    }

    #[test]
    fn colours_go_from_quick_to_slow_and_no_further() {
        assert!(figure(Some(0.1), true).contains(";22m"));
        assert!(figure(Some(9000.0), true).contains(";124m"));
        assert_eq!(figure(None, true), "   ·");
    }
}
