//! The options of the command line.

use crate::data::RECORD;

/// The limits and the usual first loads are always measured, as the others are held against them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// More or fewer patients at once, other page sizes.
    Variants,
    Peers,
    Idle,
    /// More rows, and purges.
    Scaling,
    /// PostgreSQL in place of a file.
    Postgres,
    /// Many patients and workers over it.
    Workers,
}

pub(crate) struct Options {
    pub(crate) patients: usize,
    pub(crate) idle_patients: usize,
    pub(crate) rounds: usize,
    /// The most patients of one first load.
    pub(crate) scale_to: usize,
    parts: Vec<Part>,
}

pub(crate) const USAGE: &str =
    "cargo bench --bench road -- [--quick] [--rows 100k|1m|10m] [core] [variants] [peers] [idle] [scaling]
                               [postgres] [workers]

--quick   the regression guard: a part of the data, no peers, exit status 1 where a ratio is far too small
--rows    how many rows scaling goes up to; 1m if it is not said
parts     only these, and the core; all if none is named";

impl Options {
    pub(crate) fn read(arguments: &[String]) -> Result<Self, &'static str> {
        let mut options = Self {
            patients: 20,
            idle_patients: 10_000,
            rounds: 5,
            scale_to: 1_000_000 / RECORD,
            parts: Vec::new(),
        };
        let all = [Part::Variants, Part::Peers, Part::Idle, Part::Scaling, Part::Postgres, Part::Workers];
        let (mut names_parts, mut is_quick) = (false, false);
        let mut arguments = arguments.iter().map(String::as_str);
        while let Some(argument) = arguments.next() {
            let part = match argument {
                "--quick" => {
                    is_quick = true;
                    continue;
                }
                "--rows" => {
                    options.scale_to = match arguments.next() {
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
                "scaling" => Some(Part::Scaling),
                "postgres" => Some(Part::Postgres),
                "workers" => Some(Part::Workers),
                _ => return Err(USAGE),
            };
            names_parts = true;
            options.parts.extend(part);
        }
        if is_quick {
            options = Self { patients: 8, idle_patients: 2_000, rounds: 3, ..options };
        }
        if !names_parts {
            options.parts = if is_quick { vec![Part::Idle] } else { all.to_vec() };
        }
        Ok(options)
    }

    pub(crate) fn has(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }

    /// Returns the resources of one first load.
    pub(crate) fn count(&self) -> usize {
        self.patients * RECORD
    }
}
