//! The record being made: its resources so far, who and what they may refer to, and the
//! FHIR fragments that all of them are made of.

use chrono::{Datelike, NaiveDate, TimeDelta};

use super::super::text::{array, object, quoted};
use super::dice::Dice;

/// Everything generated happened on or before this day.
pub(super) const LAST_DAY: NaiveDate = match NaiveDate::from_ymd_opt(2025, 6, 30) {
    Some(day) => day,
    None => NaiveDate::MIN,
};

/// A system of a hospital, with its own ids and its own idea of the patient.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) patient_id: String,
    /// As that system writes times.
    pub(super) zone: &'static str,
    id_prefix: String,
}

#[derive(Debug)]
pub(super) struct Record {
    pub(super) dice: Dice,
    pub(super) seed: u64,
    pub(super) resources: Vec<String>,
    pub(super) sources: Vec<Source>,
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
    pub(super) fn new(mut dice: Dice, seed: u64) -> Self {
        let sources = if dice.chance(40) { 2 } else { 1 };
        let sources = (0..sources).map(|number| new_source(&mut dice, number)).collect();
        Self {
            born_days_ago: dice.between(20 * 365, 90 * 365),
            is_diabetic: dice.chance(45),
            weight_hectograms: dice.between(480, 1_200),
            height_centimetres: dice.between(148, 198),
            dice,
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

    /// Often nothing, as in real records.
    fn meta(&mut self, days_ago: u32) -> String {
        match self.dice.below(10) {
            0..3 => {
                let version = self.dice.between(1, 4).to_string();
                let at = format!("{}T{:02}:15:30.120Z", day(days_ago), self.dice.below(24));
                object(&[("versionId", quoted(&version)), ("lastUpdated", quoted(&at))])
            }
            3 => object(&[("source", quoted("https://ehr.example.org/fhir"))]),
            _ => String::new(),
        }
    }

    pub(super) fn source(&mut self) -> Source {
        self.dice.pick(&self.sources).clone()
    }

    /// An id as that system would give it; some are as long as Epic's.
    pub(super) fn new_id(&mut self, source: &Source) -> String {
        let length = if self.dice.chance(4) { 130 } else { self.dice.between(18, 40) as usize };
        let mut id = source.id_prefix.clone();
        while id.len() < length {
            let part = self.dice.between(4, 12) as usize;
            id.push_str(&self.dice.word(part));
            id.push(if self.dice.chance(50) { '.' } else { '-' });
        }
        id.truncate(length);
        id
    }

    pub(super) fn practitioner(&mut self) -> String {
        reference("Practitioner", self.dice.pick(&self.practitioners).as_str())
    }

    pub(super) fn organization(&mut self) -> String {
        reference("Organization", self.dice.pick(&self.organizations).as_str())
    }

    /// A time on that day, within office hours.
    pub(super) fn time(&mut self, days_ago: u32, source: &Source) -> String {
        let (hour, minute) = (self.dice.between(7, 18), self.dice.below(60));
        format!("{}T{hour:02}:{minute:02}:00{}", day(days_ago), source.zone)
    }

    /// What a patient remembers: a day, a month or a year.
    pub(super) fn vague_date(&mut self, days_ago: u32) -> String {
        let day = day(days_ago);
        match self.dice.below(10) {
            0 => day.year().to_string(),
            1 => day.format("%Y-%m").to_string(),
            _ => day.to_string(),
        }
    }
}

fn new_source(dice: &mut Dice, number: usize) -> Source {
    let id_prefix =
        if number == 0 { format!("eq{}-", dice.digits(3)) } else { format!("{}.", dice.digits(5)) };
    Source {
        patient_id: format!("{id_prefix}{}", dice.word(14)),
        zone: if number == 0 { "-05:00" } else { "Z" },
        id_prefix,
    }
}

pub(super) fn day(days_ago: u32) -> NaiveDate {
    LAST_DAY - TimeDelta::days(i64::from(days_ago))
}

pub(super) fn reference(kind: &str, id: &str) -> String {
    object(&[("reference", quoted(&format!("{kind}/{id}")))])
}

pub(super) fn coding(system: &str, code: &str, display: &str) -> String {
    object(&[("system", quoted(system)), ("code", quoted(code)), ("display", quoted(display))])
}

/// A `CodeableConcept` of codings, with a text.
pub(super) fn concept<I: IntoIterator<Item = String>>(codings: I, text: &str) -> String {
    object(&[("coding", array(codings)), ("text", quoted(text))])
}

/// A `CodeableConcept` of one of HL7's own code systems.
pub(super) fn status_concept(system: &str, code: &str) -> String {
    let system = format!("http://terminology.hl7.org/CodeSystem/{system}");
    let coding = object(&[("system", quoted(&system)), ("code", quoted(code))]);
    object(&[("coding", array([coding]))])
}

/// A `Quantity` in UCUM, its number as it is to be read.
pub(super) fn quantity(number: &str, unit: &str) -> String {
    object(&[
        ("value", number.to_owned()),
        ("unit", quoted(unit)),
        ("system", quoted("http://unitsofmeasure.org")),
        ("code", quoted(unit)),
    ])
}

/// 650 with two decimals is `6.50`: no float has touched it, so no digit is lost.
pub(super) fn decimal(scaled: u32, decimals: usize) -> String {
    if decimals == 0 {
        return scaled.to_string();
    }
    let digits = format!("{scaled:0width$}", width = decimals + 1);
    let (whole, fraction) = digits.split_at(digits.len() - decimals);
    format!("{whole}.{fraction}")
}
