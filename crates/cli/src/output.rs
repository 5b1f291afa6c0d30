//! Data goes to stdout, as text for people or one line of JSON; chatter goes to stderr. Colour only on
//! terminals, and never when `NO_COLOR` is set.

use std::{
    fmt::{self, Display, Write as _},
    io::{self, IsTerminal, Write as _},
    sync::{Mutex, PoisonError},
};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::exit::Failure;

/// Where output goes and how it may look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
    stdout_colour: bool,
    stderr_colour: bool,
    progress: bool,
}

/// What a piece of text is, for those who see colours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Paint {
    /// As it is.
    Plain,
    /// A heading or a name that matters.
    Bold,
    /// All is well.
    Good,
    /// Something is on its way or wants attention.
    Warn,
    /// Something is wrong.
    Bad,
}

/// The bar on the terminal, if there is one.
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// What else goes to stderr from now on goes above this bar.
pub(crate) fn underline_with(bar: ProgressBar) {
    *BAR.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar);
}

/// There is to be no bar any more: what was there.
pub(crate) fn take_bar() -> Option<ProgressBar> {
    let mut bar = BAR.lock().unwrap_or_else(PoisonError::into_inner);
    bar.take()
}

/// Writes to stderr where no bar overwrites it.
pub(crate) fn above_bar<T>(write: impl FnOnce() -> T) -> T {
    let bar = BAR.lock().unwrap_or_else(PoisonError::into_inner).clone();
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

impl Output {
    /// For this process's stdout and stderr.
    pub(crate) fn new(json: bool) -> Self {
        let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self {
            json,
            stdout_colour: colour && io::stdout().is_terminal(),
            stderr_colour: colour && io::stderr().is_terminal(),
            progress: io::stderr().is_terminal(),
        }
    }

    /// Whether data is to be JSON.
    pub(crate) const fn json(self) -> bool {
        self.json
    }

    /// Whether somebody watches stderr, so that a progress bar helps.
    pub(crate) const fn progress(self) -> bool {
        self.progress
    }

    /// Chatter, on stderr. A stderr that nobody reads is no reason to stop.
    pub(crate) fn note(self, text: impl Display) {
        above_bar(|| {
            let _ = writeln!(io::stderr().lock(), "{text}");
        });
    }

    /// A failure, on stderr.
    pub(crate) fn failure(self, failure: &Failure) {
        if !failure.is_silent() {
            self.note(format_args!(
                "{} {failure}",
                self.paint_note(Paint::Bad, "error:")
            ));
        }
    }

    /// Data, on stdout: one line of JSON if that was asked for, what `human` says otherwise.
    pub(crate) fn say<T: Serialize>(
        self,
        value: &T,
        human: impl FnOnce(Self) -> String,
    ) -> Result<(), Failure> {
        let mut text = if self.json {
            serde_json::to_string(value)
                .map_err(|error| Failure::new(format!("cannot write JSON: {error}")))?
        } else {
            human(self)
        };
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        Ok(stdout.flush()?)
    }

    /// Text for stdout, coloured where that shows.
    pub(crate) fn paint(self, paint: Paint, text: &str) -> String {
        painted(self.stdout_colour, paint, text)
    }

    /// Text for stderr, coloured where that shows.
    pub(crate) fn paint_note(self, paint: Paint, text: &str) -> String {
        painted(self.stderr_colour, paint, text)
    }
}

fn painted(colour: bool, paint: Paint, text: &str) -> String {
    let code = match paint {
        _ if !colour => return text.to_owned(),
        Paint::Plain => return text.to_owned(),
        Paint::Bold => "1",
        Paint::Good => "32",
        Paint::Warn => "33",
        Paint::Bad => "31",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// A table for people: columns as wide as their widest cell, numbers to the right.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<Cell>>,
}

/// One cell of a table.
#[derive(Debug)]
pub(crate) struct Cell {
    text: String,
    paint: Paint,
}

impl Cell {
    /// A cell that is painted.
    pub(crate) fn painted(text: impl Into<String>, paint: Paint) -> Self {
        Self {
            text: text.into(),
            paint,
        }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }

    fn is_number(&self) -> bool {
        !self.text.is_empty()
            && self
                .text
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'-')
    }
}

impl<T: Display> From<T> for Cell {
    fn from(value: T) -> Self {
        Self::painted(value.to_string(), Paint::Plain)
    }
}

impl Table {
    /// A table with these headings.
    pub(crate) fn new<const N: usize>(headings: [&str; N]) -> Self {
        let headings = headings.map(|heading| Cell::painted(heading, Paint::Bold));
        Self {
            rows: vec![headings.into()],
        }
    }

    /// Adds a row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        assert_eq!(
            N,
            self.rows[0].len(),
            "a row has a cell under every heading"
        );
        self.rows.push(cells.into());
    }

    /// The table's lines.
    pub(crate) fn render(&self, output: Output) -> String {
        let columns = self.rows[0].len();
        let widths: Vec<usize> = (0..columns)
            .map(|at| {
                self.rows
                    .iter()
                    .map(|row| row[at].width())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let numeric: Vec<bool> = (0..columns)
            .map(|at| self.rows.len() > 1 && self.rows[1..].iter().all(|row| row[at].is_number()))
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (at, cell) in row.iter().enumerate() {
                let blank = " ".repeat(widths[at] - cell.width());
                let shown = output.paint(cell.paint, &cell.text);
                let gap = if at == 0 { "" } else { "  " };
                // Writing to a string cannot fail.
                let _ = if numeric[at] {
                    write!(line, "{gap}{blank}{shown}")
                } else {
                    write!(line, "{gap}{shown}{blank}")
                };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// A bar over so many bytes, on stderr.
pub(crate) fn bytes_bar(bytes: u64) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{bar:40} {bytes}/{total_bytes} {binary_bytes_per_sec}, {eta} to go",
    );
    ProgressBar::new(bytes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// A count with its noun, `1 record` or `3 records`.
pub(crate) struct Counted<'a>(pub(crate) u64, pub(crate) &'a str);

impl Display for Counted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0 == 1 { "" } else { "s" };
        write!(f, "{} {}{plural}", Thousands(self.0), self.1)
    }
}

/// A number with its thousands set apart, `1,234,567`.
pub(crate) struct Thousands(pub(crate) u64);

impl Display for Thousands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                f.write_char(',')?;
            }
            f.write_char(digit)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Output = Output {
        json: false,
        stdout_colour: false,
        stderr_colour: false,
        progress: false,
    };

    #[test]
    fn columns_align_and_numbers_stand_to_the_right() {
        let mut table = Table::new(["NAME", "RECORDS", "LEADER"]);
        table.row([
            "orders".into(),
            12_u64.into(),
            Cell::painted("n1", Paint::Good),
        ]);
        table.row(["a".into(), 3_456_u64.into(), "-".into()]);
        assert_eq!(
            table.render(PLAIN),
            "NAME    RECORDS  LEADER\norders       12  n1\na          3456  -\n"
        );
    }

    #[test]
    fn colour_does_not_shift_columns() {
        let mut table = Table::new(["STATE", "LAG"]);
        table.row([Cell::painted("ok", Paint::Good), 1.into()]);
        let colourful = Output {
            stdout_colour: true,
            ..PLAIN
        };
        assert_eq!(
            table.render(colourful),
            "\x1b[1mSTATE\x1b[0m  \x1b[1mLAG\x1b[0m\n\x1b[32mok\x1b[0m       1\n"
        );
    }

    #[test]
    fn counts_read_well() {
        assert_eq!(Counted(1, "record").to_string(), "1 record");
        assert_eq!(Counted(0, "record").to_string(), "0 records");
        assert_eq!(Thousands(1_234_567).to_string(), "1,234,567");
        assert_eq!(Thousands(999).to_string(), "999");
        assert_eq!(Thousands(1_000).to_string(), "1,000");
    }
}
