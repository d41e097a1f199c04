//! The record being generated: its resources so far, who and what they may refer to, and the
//! FHIR fragments that all of them are made of.

use super::super::text::{array, object, quoted};
use super::seeded_rng::SeededRng;
use crate::time::Day;

/// Everything generated happened on or before this day.
pub(super) const LAST_DAY: Day = match Day::of(2025, 6, 30) {
    Some(day) => day,
    None => Day::FIRST,
};

/// A system of a hospital, with its own ids and its own idea of the patient.
#[derive(Clone, Debug)]
pub(super) struct SourceSystem {
    pub(super) patient_id: String,
    /// As that system writes times.
    pub(super) zone: &'static str,
    id_prefix: String,
}

/// A visit: where its resources belong, and when it was.
pub(super) struct Visit {
    pub(super) source: SourceSystem,
    pub(super) encounter_id: String,
    pub(super) days_ago: u32,
}

#[derive(Debug)]
pub(super) struct Record {
    pub(super) rng: SeededRng,
    pub(super) seed: u64,
    pub(super) resources: Vec<String>,
    pub(super) sources: Vec<SourceSystem>,
    /// Ids, for references.
    pub(super) practitioners: Vec<String>,
    pub(super) organizations: Vec<String>,
    pub(super) conditions: Vec<String>,
    pub(super) born_days_ago: u32,
    pub(super) is_diabetic: bool,
    pub(super) weight_hectograms: u32,
    pub(super) height_centimetres: u32,
}

impl Record {
    pub(super) fn new(mut rng: SeededRng, seed: u64) -> Self {
        let sources = if rng.chance(40) { 2 } else { 1 };
        let sources = (0..sources).map(|number| new_source(&mut rng, number)).collect();
        Self {
            born_days_ago: rng.between(20 * 365, 90 * 365),
            is_diabetic: rng.chance(45),
            weight_hectograms: rng.between(480, 1_200),
            height_centimetres: rng.between(148, 198),
            rng,
            seed,
            resources: Vec::new(),
            sources,
            practitioners: Vec::new(),
            organizations: Vec::new(),
            conditions: Vec::new(),
        }
    }

    /// Adds a resource: its type, id and perhaps `meta` come before the fields given.
    pub(super) fn add(&mut self, kind: &str, id: &str, days_ago: u32, fields: &[(&str, String)]) {
        let meta = self.meta(days_ago);
        let mut all = vec![("resourceType", quoted(kind)), ("id", quoted(id)), ("meta", meta)];
        all.extend(fields.iter().cloned());
        self.resources.push(object(&all));
    }

    /// Makes a `meta`, often none, as in real records.
    fn meta(&mut self, days_ago: u32) -> String {
        match self.rng.below(10) {
            0..3 => {
                let version = self.rng.between(1, 4).to_string();
                let at = format!("{}T{:02}:15:30.120Z", day(days_ago), self.rng.below(24));
                object(&[("versionId", quoted(&version)), ("lastUpdated", quoted(&at))])
            }
            3 => object(&[("source", quoted("https://ehr.example.org/fhir"))]),
            _ => String::new(),
        }
    }

    pub(super) fn source(&mut self) -> SourceSystem {
        self.rng.pick(&self.sources).clone()
    }

    /// Makes an id as that system would; some are as long as Epic's.
    pub(super) fn new_id(&mut self, source: &SourceSystem) -> String {
        let length = if self.rng.chance(4) { 130 } else { self.rng.between(18, 40) as usize };
        let mut id = source.id_prefix.clone();
        while id.len() < length {
            let part = self.rng.between(4, 12) as usize;
            id.push_str(&self.rng.word(part));
            id.push(if self.rng.chance(50) { '.' } else { '-' });
        }
        id.truncate(length);
        id
    }

    pub(super) fn practitioner(&mut self) -> String {
        reference("Practitioner", self.rng.pick(&self.practitioners).as_str())
    }

    pub(super) fn organization(&mut self) -> String {
        reference("Organization", self.rng.pick(&self.organizations).as_str())
    }

    /// Makes a time on that day, within office hours.
    pub(super) fn time(&mut self, days_ago: u32, source: &SourceSystem) -> String {
        let (hour, minute) = (self.rng.between(7, 18), self.rng.below(60));
        format!("{}T{hour:02}:{minute:02}:00{}", day(days_ago), source.zone)
    }

    /// Makes a date as a patient remembers it: a day, a month or a year.
    pub(super) fn vague_date(&mut self, days_ago: u32) -> String {
        let day = day(days_ago);
        match self.rng.below(10) {
            0 => day.year().to_string(),
            1 => format!("{}-{:02}", day.year(), day.month()),
            _ => day.to_string(),
        }
    }
}

fn new_source(rng: &mut SeededRng, number: usize) -> SourceSystem {
    let id_prefix = if number == 0 { format!("eq{}-", rng.digits(3)) } else { format!("{}.", rng.digits(5)) };
    SourceSystem {
        patient_id: format!("{id_prefix}{}", rng.word(14)),
        zone: if number == 0 { "-05:00" } else { "Z" },
        id_prefix,
    }
}

pub(super) fn day(days_ago: u32) -> Day {
    LAST_DAY.before(u64::from(days_ago))
}

pub(super) fn reference(kind: &str, id: &str) -> String {
    object(&[("reference", quoted(&format!("{kind}/{id}")))])
}

pub(super) fn coding(system: &str, code: &str, display: &str) -> String {
    object(&[("system", quoted(system)), ("code", quoted(code)), ("display", quoted(display))])
}

/// Writes a `CodeableConcept` of codings, with a text.
pub(super) fn concept<I: IntoIterator<Item = String>>(codings: I, text: &str) -> String {
    object(&[("coding", array(codings)), ("text", quoted(text))])
}

/// Writes a `CodeableConcept` of one of HL7's own code systems.
pub(super) fn status_concept(system: &str, code: &str) -> String {
    let system = format!("http://terminology.hl7.org/CodeSystem/{system}");
    let coding = object(&[("system", quoted(&system)), ("code", quoted(code))]);
    object(&[("coding", array([coding]))])
}

/// Writes a `Quantity` in UCUM, with its number as it is.
pub(super) fn quantity(number: &str, unit: &str) -> String {
    object(&[
        ("value", number.to_owned()),
        ("unit", quoted(unit)),
        ("system", quoted("http://unitsofmeasure.org")),
        ("code", quoted(unit)),
    ])
}

/// Writes a scaled number: 650 with two decimals is `6.50`. No float is involved, so no digit is
/// lost.
pub(super) fn decimal(scaled: u32, decimals: usize) -> String {
    if decimals == 0 {
        return scaled.to_string();
    }
    let digits = format!("{scaled:0width$}", width = decimals + 1);
    let (whole, fraction) = digits.split_at(digits.len() - decimals);
    format!("{whole}.{fraction}")
}
