//! Text that a spreadsheet shows and does not run.

use std::borrow::Cow;

/// What begins a formula, full-width forms too, which some spreadsheets take for the same.
const BEGINS_A_FORMULA: [char; 8] = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];

/// Returns the text with a blank for each control character and an apostrophe before what would be a formula.
/// A number stays a number.
pub(super) fn harmless(text: &str) -> Cow<'_, str> {
    let is_odd = |letter: char| {
        letter.is_control()
            || matches!(letter, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    let text: Cow<'_, str> =
        if text.contains(is_odd) { text.replace(is_odd, " ").into() } else { text.into() };
    let is_formula = text.trim_start().starts_with(BEGINS_A_FORMULA) && text.trim().parse::<f64>().is_err();
    if is_formula { format!("'{text}").into() } else { text }
}

#[cfg(test)]
mod tests {
    use super::harmless;

    #[test]
    fn a_formula_becomes_text_and_a_number_stays_one() {
        for (text, expected) in [
            ("=HYPERLINK(\"http://x\")", "'=HYPERLINK(\"http://x\")"),
            ("+1+cmd|' /C calc'!A0", "'+1+cmd|' /C calc'!A0"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "' =1"),
            ("\r\n-x", "'  -x"),
            ("＝1", "'＝1"),
            ("-5.4", "-5.4"),
            ("+3", "+3"),
            ("plain, \"quoted\" <5", "plain, \"quoted\" <5"),
            ("two\nlines\0", "two lines "),
            ("\u{202e}abc", " abc"),
        ] {
            assert_eq!(harmless(text), expected, "{text:?}");
        }
    }
}
