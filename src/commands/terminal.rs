//! The width and the colours of stdout.

use std::io::{IsTerminal, Write};

use crate::telemetry::has_colours;

/// The width of a file, a pipe, and a terminal that does not tell its own.
const WIDTH: usize = 80;
/// A narrower terminal breaks the lines itself.
const WIDTH_MIN: usize = 60;

#[derive(Clone, Copy, Debug)]
pub(super) enum Colour {
    Green,
    Yellow,
    Red,
    Faint,
}

impl Colour {
    fn code(self) -> &'static str {
        match self {
            Self::Green => "32",
            Self::Yellow => "33",
            Self::Red => "1;31",
            Self::Faint => "2",
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Screen {
    pub(super) width: usize,
    /// `None` where there is no end to it.
    pub(super) height: Option<usize>,
    pub(super) is_terminal: bool,
    has_colours: bool,
}

impl Screen {
    pub(super) fn of_stdout() -> Self {
        let stdout = std::io::stdout();
        if !stdout.is_terminal() {
            return Self { width: WIDTH, height: None, is_terminal: false, has_colours: has_colours(false) };
        }
        let size = rustix::termios::tcgetwinsize(&stdout);
        let (columns, rows) =
            size.map_or((0, 0), |size| (usize::from(size.ws_col), usize::from(size.ws_row)));
        let width = if columns == 0 { WIDTH } else { columns.max(WIDTH_MIN) };
        let height = Some(rows).filter(|rows| *rows > 0);
        Self { width, height, is_terminal: true, has_colours: has_colours(true) }
    }

    /// Colours `text`, where stdout has colours.
    pub(super) fn paint(&self, colour: Option<Colour>, text: &str) -> String {
        match colour {
            Some(colour) if self.has_colours => format!("\x1b[{}m{text}\x1b[0m", colour.code()),
            _ => text.to_owned(),
        }
    }

    /// Writes `text` in lines that fit, each behind `indent` spaces.
    pub(super) fn write(&self, indent: usize, text: &str, out: &mut dyn Write) -> std::io::Result<()> {
        self.wrap(indent, text).iter().try_for_each(|line| writeln!(out, "{line}"))
    }

    /// Breaks `text` into lines that fit, each behind `indent` spaces. A longer word stays whole.
    pub(super) fn wrap(&self, indent: usize, text: &str) -> Vec<String> {
        let room = self.width.saturating_sub(indent);
        let mut lines: Vec<String> = Vec::new();
        for word in text.split_whitespace() {
            match lines.last_mut() {
                Some(line) if line.chars().count() + 1 + word.chars().count() <= indent + room => {
                    line.push(' ');
                    line.push_str(word);
                }
                _ => lines.push(format!("{:indent$}{word}", "")),
            }
        }
        lines
    }
}

/// Shortens `text` to `width` characters. Labels differ mostly at their end, so it is the middle
/// that is left out.
pub(super) fn shorten(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(1);
    let end = kept / 2;
    let start = kept - end;
    text.chars().take(start).chain(['…']).chain(text.chars().skip(length - end)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_label_keeps_its_beginning_and_its_end() {
        assert_eq!(shorten("study-0001", 10), "study-0001");
        assert_eq!(shorten("study-0001", 7), "stu…001");
        assert_eq!(shorten("äöü-ßßß-1", 6), "äöü…-1");
        assert_eq!(shorten("study", 1), "…");
    }

    #[test]
    fn a_paragraph_fits_and_loses_no_word() {
        let screen = Screen { width: 20, height: None, is_terminal: false, has_colours: false };
        let text = "the answer took longer than api.page_timeout";
        let lines = screen.wrap(4, text);
        assert!(lines.iter().all(|line| line.chars().count() <= 20 && line.starts_with("    ")), "{lines:?}");
        let words: Vec<&str> = lines.iter().flat_map(|line| line.split_whitespace()).collect();
        assert_eq!(words.join(" "), text);
        assert_eq!(screen.wrap(0, "unbreakable-as-it-is-long"), ["unbreakable-as-it-is-long"]);
    }
}
