//! Generates vital signs, laboratory results and their reports.

use super::super::text::{array, object, quoted};
use super::codes::{HBA1C, LOINC, Lab, PANELS, Range, VITALS};
use super::record::{Record, Visit, coding, concept, decimal, quantity, reference, status_concept};

type Field = (&'static str, String);

pub(super) fn add_vital_signs(record: &mut Record, visit: &Visit) {
    add_blood_pressure(record, visit);
    // A body changes slowly.
    let weight = record.weight_hectograms + record.rng.below(21) - 10;
    let hundredths = weight * 10 + record.rng.below(10);
    let weight = quantity(&decimal(hundredths, 2), "kg");
    add_vital_sign(record, visit, ("29463-7", "Body weight"), ("valueQuantity", weight));
    if record.rng.chance(50) {
        let height = quantity(&decimal(record.height_centimetres * 10, 1), "cm");
        add_vital_sign(record, visit, ("8302-2", "Body height"), ("valueQuantity", height));
    }
    for vital in VITALS {
        if record.rng.chance(70) {
            let value = measured_value(record, vital);
            add_vital_sign(record, visit, (vital.loinc, vital.name), value);
        }
    }
}

fn add_blood_pressure(record: &mut Record, visit: &Visit) {
    let systolic = record.rng.between(98, 178);
    let diastolic = record.rng.between(56, 104).min(systolic - 20);
    let component = |loinc: &str, name: &str, value: u32| {
        object(&[
            ("code", concept([coding(LOINC, loinc, name)], name)),
            ("valueQuantity", quantity(&value.to_string(), "mm[Hg]")),
        ])
    };
    let components = array([
        component("8480-6", "Systolic blood pressure", systolic),
        component("8462-4", "Diastolic blood pressure", diastolic),
    ]);
    let name = "Blood pressure panel with all children optional";
    add_vital_sign(record, visit, ("85354-9", name), ("component", components));
}

fn add_vital_sign(record: &mut Record, visit: &Visit, code: (&str, &str), value: Field) {
    let measurement = Measurement { category: "vital-signs", code, values: vec![value] };
    add_observation(record, visit, measurement);
}

struct Measurement<'a> {
    category: &'a str,
    /// LOINC and name.
    code: (&'a str, &'a str),
    values: Vec<Field>,
}

/// Adds an Observation and returns its id.
fn add_observation(record: &mut Record, visit: &Visit, measurement: Measurement<'_>) -> String {
    let id = record.new_id(&visit.source);
    add_observation_of_id(record, visit, &id, measurement);
    id
}

fn add_observation_of_id(record: &mut Record, visit: &Visit, id: &str, measurement: Measurement<'_>) {
    let at = record.time(visit.days_ago, &visit.source);
    let performer = record.organization();
    let (loinc, name) = measurement.code;
    let encounter = if visit.encounter_id.is_empty() {
        String::new()
    } else {
        reference("Encounter", &visit.encounter_id)
    };
    let mut fields = vec![
        ("status", quoted("final")),
        ("category", array([status_concept("observation-category", measurement.category)])),
        ("code", concept([coding(LOINC, loinc, name)], name)),
        ("subject", reference("Patient", &visit.source.patient_id)),
        ("encounter", encounter),
        ("effectiveDateTime", quoted(&at)),
        ("performer", array([performer])),
    ];
    fields.extend(measurement.values);
    record.add("Observation", id, visit.days_ago, &fields);
}

/// A panel of laboratory values and the report that holds them together.
pub(super) fn add_lab_panel(record: &mut Record, visit: &Visit) {
    let (loinc, name, labs) = *record.rng.pick(PANELS);
    let ids: Vec<String> = labs.iter().map(|lab| add_lab(record, visit, lab)).collect();
    add_report(record, visit, (loinc, name), &ids);
}

pub(super) fn add_hba1c(record: &mut Record, visit: &Visit) {
    let id = add_lab(record, visit, &HBA1C);
    add_report(record, visit, (HBA1C.loinc, HBA1C.name), &[id]);
}

/// Adds two results to which two systems have given one id.
pub(super) fn add_twins(record: &mut Record) {
    for (source, lab) in record.sources.clone().into_iter().zip([&HBA1C, &VITALS[0]]) {
        let visit = Visit { source, encounter_id: String::new(), days_ago: 90 };
        let measurement = lab_measurement(record, lab);
        add_observation_of_id(record, &visit, "result-1001", measurement);
    }
}

fn add_lab(record: &mut Record, visit: &Visit, lab: &Lab) -> String {
    let measurement = lab_measurement(record, lab);
    add_observation(record, visit, measurement)
}

fn lab_measurement<'a>(record: &mut Record, lab: &'a Lab) -> Measurement<'a> {
    let Range { least, most, decimals } = lab.range;
    let normal = object(&[
        ("low", quantity(&decimal(least + (most - least) / 5, decimals), lab.unit)),
        ("high", quantity(&decimal(most - (most - least) / 4, decimals), lab.unit)),
    ]);
    let value = match record.rng.below(100) {
        // What laboratories also write.
        0..2 => ("valueString", quoted("Hemolyzed specimen; see comment")),
        2..4 => ("dataAbsentReason", status_concept("data-absent-reason", "not-performed")),
        4..6 => {
            let below = decimal(least, decimals);
            let coded = quantity(&below, lab.unit);
            ("valueQuantity", coded.replacen('{', r#"{"comparator":"<","#, 1))
        }
        _ => measured_value(record, lab),
    };
    Measurement {
        category: "laboratory",
        code: (lab.loinc, lab.name),
        values: vec![value, ("referenceRange", array([normal]))],
    }
}

fn measured_value(record: &mut Record, lab: &Lab) -> Field {
    let Range { least, most, decimals } = lab.range;
    let scaled = record.rng.between(least, most);
    ("valueQuantity", quantity(&decimal(scaled, decimals), lab.unit))
}

fn add_report(record: &mut Record, visit: &Visit, (loinc, name): (&str, &str), result_ids: &[String]) {
    let id = record.new_id(&visit.source);
    let at = record.time(visit.days_ago, &visit.source);
    let performer = record.organization();
    let results = result_ids.iter().map(|id| reference("Observation", id));
    let conclusion = if record.rng.chance(20) { quoted("Within the expected range.") } else { String::new() };
    record.add(
        "DiagnosticReport",
        &id,
        visit.days_ago,
        &[
            ("status", quoted("final")),
            ("category", array([status_concept("v2-0074", "LAB")])),
            ("code", concept([coding(LOINC, loinc, name)], name)),
            ("subject", reference("Patient", &visit.source.patient_id)),
            ("encounter", reference("Encounter", &visit.encounter_id)),
            ("effectiveDateTime", quoted(&at)),
            ("issued", quoted(&at)),
            ("performer", array([performer])),
            ("result", array(results)),
            ("conclusion", conclusion),
        ],
    );
}
