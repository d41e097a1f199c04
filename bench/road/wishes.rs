//! What is asked for on the command line.

use crate::data::RECORD;

/// The limits and the usual first loads are always measured, as the others are held against them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// More or fewer patients at once, other page sizes.
    Variants,
    Peers,
    Idle,
    /// More rows, and purges.
    Growth,
}

pub(crate) struct Wishes {
    pub(crate) patients: usize,
    pub(crate) idle_patients: usize,
    pub(crate) rounds: usize,
    /// The most patients of one first load.
    pub(crate) grows_to: usize,
    parts: Vec<Part>,
}

pub(crate) const USAGE: &str =
    "cargo bench --bench road -- [--quick] [--rows 100k|1m|10m] [core] [variants] [peers] [idle] [growth]

--quick   the regression guard: a part of the data, no peers, exit status 1 where a ratio is far too small
--rows    how far growth goes; 1m if it is not said
parts     only these, and the core; all if none is named";

impl Wishes {
    pub(crate) fn read(arguments: &[String]) -> Result<Self, &'static str> {
        let mut wishes = Self {
            patients: 20,
            idle_patients: 10_000,
            rounds: 5,
            grows_to: 1_000_000 / RECORD,
            parts: Vec::new(),
        };
        let all = [Part::Variants, Part::Peers, Part::Idle, Part::Growth];
        let (mut names_parts, mut is_quick) = (false, false);
        let mut arguments = arguments.iter().map(String::as_str);
        while let Some(argument) = arguments.next() {
            let part = match argument {
                "--quick" => {
                    is_quick = true;
                    continue;
                }
                "--rows" => {
                    wishes.grows_to = match arguments.next() {
                        Some("100k") => 100_000 / RECORD,
                        Some("1m") => 1_000_000 / RECORD,
                        Some("10m") => 10_000_000 / RECORD,
                        _ => return Err(USAGE),
                    };
                    continue;
                }
                "core" => None,
                "variants" => Some(Part::Variants),
                "peers" => Some(Part::Peers),
                "idle" => Some(Part::Idle),
                "growth" => Some(Part::Growth),
                _ => return Err(USAGE),
            };
            names_parts = true;
            wishes.parts.extend(part);
        }
        if is_quick {
            wishes = Self { patients: 8, idle_patients: 2_000, rounds: 3, ..wishes };
        }
        if !names_parts {
            wishes.parts = if is_quick { vec![Part::Idle] } else { all.to_vec() };
        }
        Ok(wishes)
    }

    pub(crate) fn has(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }

    /// Resources of one first load.
    pub(crate) fn count(&self) -> usize {
        self.patients * RECORD
    }
}
