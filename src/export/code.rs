//! Which texts may stand in a pseudonymous export: codes, names of code systems, units.
//!
//! Promise: what has the form of free text is none of them. Absent on purpose: whether a code exists.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

const FACTS: &str = include_str!("r4-codes.txt");

static CODES: LazyLock<HashMap<&'static str, HashSet<&'static str>>> = LazyLock::new(|| {
    let lines = FACTS.lines().filter(|line| !line.starts_with('#'));
    let types = lines.filter_map(|line| line.split_once(": "));
    types.map(|(name, elements)| (name, elements.split(", ").collect())).collect()
});

const CODE_LENGTH_MAX: usize = 64;
/// Of a code of a list that is nobody knows whose.
const LOCAL_CODE_LENGTH_MAX: usize = 32;
const SYSTEM_LENGTH_MAX: usize = 200;
const UNIT_LENGTH_MAX: usize = 24;

/// Returns whether an element is of the type `code` in R4.
pub(super) fn is_code_element(owner: &str, name: &str) -> bool {
    CODES.get(owner).is_some_and(|elements| elements.contains(name))
}

/// Returns whether a text has the form of a code.
pub(super) fn is_code(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= CODE_LENGTH_MAX
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'@')
}

/// The same for a code of a system that is not public.
pub(super) fn is_local_code(text: &str) -> bool {
    is_code(text) && text.len() <= LOCAL_CODE_LENGTH_MAX
}

/// Returns whether a text has the form of a code system's name.
pub(super) fn is_system(text: &str) -> bool {
    let is_named = text.starts_with("urn:") || text.starts_with("http://") || text.starts_with("https://");
    is_named
        && text.len() <= SYSTEM_LENGTH_MAX
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"@?#\"<>".contains(&byte))
}

/// Returns whether everybody can look up what a code of this system means, so that its display tells no more.
pub(super) fn is_public(system: &str) -> bool {
    const EXACT: [&str; 9] = [
        "http://loinc.org",
        "http://snomed.info/sct",
        "http://www.nlm.nih.gov/research/umls/rxnorm",
        "http://www.ama-assn.org/go/cpt",
        "http://unitsofmeasure.org",
        "http://www.whocc.no/atc",
        "http://nucc.org/provider-taxonomy",
        "http://fdasis.nlm.nih.gov",
        "urn:ietf:bcp:47",
    ];
    const BELOW: [&str; 5] = [
        "http://hl7.org/fhir/",
        "http://terminology.hl7.org/",
        "https://www.nubc.org/",
        "https://www.cms.gov/",
        // Where HL7 registers code systems: race and ethnicity, CVX, and others.
        "urn:oid:2.16.840.1.113883.6.",
    ];
    EXACT.contains(&system) || BELOW.iter().any(|below| system.starts_with(below))
}

/// Returns whether a text has the form of a unit.
pub(super) fn is_unit(text: &str) -> bool {
    let is_of_one = |letter: char| letter.is_alphabetic() || " /%*^[]{}().'µ°_-+#\"".contains(letter);
    let digits = text.chars().filter(char::is_ascii_digit).count();
    !text.is_empty()
        && text.len() <= UNIT_LENGTH_MAX
        && digits <= 4
        && text.chars().all(|letter| is_of_one(letter) || letter.is_ascii_digit())
}

/// Returns whether a text is one of the words that the OMB has for race and ethnicity.
pub(super) fn is_origin(text: &str) -> bool {
    const WORDS: [&str; 9] = [
        "American Indian or Alaska Native",
        "Asian",
        "Black or African American",
        "Native Hawaiian or Other Pacific Islander",
        "White",
        "Other Race",
        "Hispanic or Latino",
        "Not Hispanic or Latino",
        "Unknown",
    ];
    WORDS.contains(&text)
}

/// Returns the first three digits of a US postal code, or `000` where so few live that they would tell who; `None`
/// of any other postal code.
pub(super) fn three_digits(postal_code: &str) -> Option<String> {
    /// Areas of 20,000 people or fewer, by the census of 2000, as the guidance on HIPAA's Safe Harbor lists them.
    const SMALL: [&str; 17] = [
        "036", "059", "063", "102", "203", "556", "692", "790", "821", "823", "830", "831", "878", "879",
        "884", "890", "893",
    ];
    let (five, rest) = postal_code.trim().split_at_checked(5)?;
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_us = is_digits(five)
        && (rest.is_empty() || rest.strip_prefix('-').unwrap_or(rest).len() == 4)
        && is_digits(rest.strip_prefix('-').unwrap_or(rest));
    let three = is_us.then(|| &five[..3])?;
    Some(if SMALL.contains(&three) { "000" } else { three }.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_text_is_neither_a_code_nor_a_unit() {
        for code in ["4548-4", "final", "I10", "mm[Hg]", "F32.9", "10*3/uL"] {
            assert!(is_code(code), "{code}");
        }
        for text in ["", "Anna Smith", "a@b.example", "é", &"x".repeat(65)] {
            assert!(!is_code(text), "{text}");
        }
        for unit in ["bpm", "mm[Hg]", "10*3/uL", "%", "mL/min/1.73 m2", "µg"] {
            assert!(is_unit(unit), "{unit}");
        }
        for text in ["", "call 555-12345", "x: y", &"x".repeat(25)] {
            assert!(!is_unit(text), "{text}");
        }
        assert!(is_system("urn:oid:1.2.3") && !is_system("Anna Smith") && !is_system("https://x/?id=1"));
        assert!(is_public("http://loinc.org") && !is_public("http://loinc.org.example"));
        assert!(is_code_element("Observation", "status") && !is_code_element("Patient", "id"));
    }

    #[test]
    fn of_a_postal_code_three_digits_stay() {
        for (postal_code, expected) in [
            ("74047", Some("740")),
            ("74047-1234", Some("740")),
            ("740471234", Some("740")),
            ("03601", Some("000")),
            ("SW1A 1AA", None),
            ("7404", None),
            ("74047-12", None),
            ("äääää", None),
            ("", None),
        ] {
            assert_eq!(three_digits(postal_code).as_deref(), expected, "{postal_code}");
        }
    }
}
