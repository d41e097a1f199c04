//! Generates conditions, treatment, and encounters with their results.

use super::super::text::{array, base64, object, quoted};
use super::codes::{
    ALLERGIES, CONDITIONS, CVX, ConditionCode, DIABETES, DOCUMENTS, ENCOUNTERS, ICD10, LOINC, MEDICATIONS,
    PROCEDURES, REACTIONS, RXNORM, SNOMED, VACCINES,
};
use super::measured;
use super::record::{Record, SourceSystem, Visit, coding, concept, day, reference, status_concept};

/// Adds what was there before any encounter of the record.
pub(super) fn add_history(record: &mut Record) {
    if record.is_diabetic {
        add_condition(record, DIABETES);
    }
    for _ in 0..record.rng.between(3, 10) {
        let condition = *record.rng.pick(CONDITIONS);
        add_condition(record, condition);
    }
    for _ in 0..record.rng.below(4) {
        add_allergy(record);
    }
    for _ in 0..record.rng.between(4, 14) {
        add_immunization(record);
    }
    for _ in 0..record.rng.between(2, 8) {
        let (source, days_ago) = (record.source(), record.rng.between(30, 4_000));
        add_medication_request(record, &source, days_ago, None);
    }
}

fn add_condition(record: &mut Record, condition: ConditionCode) {
    let ConditionCode { snomed, icd10, name, is_chronic } = condition;
    let source = record.source();
    let id = record.new_id(&source);
    let days_ago = record.rng.between(60, 5_000);
    let is_active = is_chronic && record.rng.chance(85);
    let onset = record.vague_date(days_ago + 20);
    let abated = if is_active { String::new() } else { quoted(&day(days_ago - 14).to_string()) };
    let recorder = record.practitioner();
    record.add(
        "Condition",
        &id,
        days_ago,
        &[
            (
                "clinicalStatus",
                status_concept("condition-clinical", if is_active { "active" } else { "resolved" }),
            ),
            ("verificationStatus", status_concept("condition-ver-status", "confirmed")),
            ("category", array([status_concept("condition-category", "problem-list-item")])),
            ("code", concept([coding(SNOMED, snomed, name), coding(ICD10, icd10, name)], name)),
            ("subject", reference("Patient", &source.patient_id)),
            ("onsetDateTime", quoted(&onset)),
            ("abatementDateTime", abated),
            ("recordedDate", quoted(&day(days_ago).to_string())),
            ("recorder", recorder),
        ],
    );
    record.conditions.push(id);
}

fn add_allergy(record: &mut Record) {
    let source = record.source();
    let id = record.new_id(&source);
    let days_ago = record.rng.between(100, 6_000);
    let (code, name, category) = *record.rng.pick(ALLERGIES);
    let (reaction, reaction_name) = *record.rng.pick(REACTIONS);
    let severity = *record.rng.pick(&["mild", "moderate", "severe"]);
    let manifestation = concept([coding(SNOMED, reaction, reaction_name)], reaction_name);
    let reaction = object(&[("manifestation", array([manifestation])), ("severity", quoted(severity))]);
    let criticality = if severity == "severe" { "high" } else { "low" };
    record.add(
        "AllergyIntolerance",
        &id,
        days_ago,
        &[
            ("clinicalStatus", status_concept("allergyintolerance-clinical", "active")),
            ("verificationStatus", status_concept("allergyintolerance-verification", "confirmed")),
            ("type", quoted("allergy")),
            ("category", array([quoted(category)])),
            ("criticality", quoted(criticality)),
            ("code", concept([coding(SNOMED, code, name)], name)),
            ("patient", reference("Patient", &source.patient_id)),
            ("recordedDate", quoted(&day(days_ago).to_string())),
            ("reaction", array([reaction])),
        ],
    );
}

fn add_immunization(record: &mut Record) {
    let source = record.source();
    let id = record.new_id(&source);
    let days_ago = record.rng.between(20, 3_600);
    let (code, name) = *record.rng.pick(VACCINES);
    let at = record.time(days_ago, &source);
    let is_done = record.rng.chance(95);
    let reason = if is_done { String::new() } else { status_concept("v3-ActReason", "PATOBJ") };
    let lot_number = if is_done { quoted(&record.rng.digits(6)) } else { String::new() };
    record.add(
        "Immunization",
        &id,
        days_ago,
        &[
            ("status", quoted(if is_done { "completed" } else { "not-done" })),
            ("statusReason", reason),
            ("vaccineCode", concept([coding(CVX, code, name)], name)),
            ("patient", reference("Patient", &source.patient_id)),
            ("occurrenceDateTime", quoted(&at)),
            ("primarySource", "true".to_owned()),
            ("lotNumber", lot_number),
        ],
    );
}

fn add_medication_request(
    record: &mut Record,
    source: &SourceSystem,
    days_ago: u32,
    encounter_id: Option<&str>,
) {
    let id = record.new_id(source);
    let (code, name, how) = *record.rng.pick(MEDICATIONS);
    let medication = concept([coding(RXNORM, code, name)], name);
    // Some systems keep the drug in a resource of its own.
    let (inline, referred) = if record.rng.chance(8) {
        let medication_id = record.new_id(source);
        record.add(
            "Medication",
            &medication_id,
            days_ago,
            &[("code", medication), ("status", quoted("active"))],
        );
        (String::new(), reference("Medication", &medication_id))
    } else {
        (medication, String::new())
    };
    let status = *record.rng.pick(&["active", "active", "completed", "stopped"]);
    let at = record.time(days_ago, source);
    let requester = record.practitioner();
    let encounter = encounter_id.map_or_else(String::new, |id| reference("Encounter", id));
    let refills = record.rng.below(4).to_string();
    record.add(
        "MedicationRequest",
        &id,
        days_ago,
        &[
            ("status", quoted(status)),
            ("intent", quoted("order")),
            ("category", array([status_concept("medicationrequest-category", "outpatient")])),
            ("medicationCodeableConcept", inline),
            ("medicationReference", referred),
            ("subject", reference("Patient", &source.patient_id)),
            ("encounter", encounter),
            ("authoredOn", quoted(&at)),
            ("requester", requester),
            ("dosageInstruction", array([object(&[("text", quoted(how))])])),
            ("dispenseRequest", object(&[("numberOfRepeatsAllowed", refills)])),
        ],
    );
}

/// Adds a visit with its vital signs, and some of what else a visit may bring.
pub(super) fn add_encounter(record: &mut Record) {
    let source = record.source();
    let encounter_id = record.new_id(&source);
    let days_ago = record.rng.between(1, 3_650);
    let visit = Visit { source, encounter_id, days_ago };
    add_encounter_itself(record, &visit);
    measured::add_vital_signs(record, &visit);
    if record.rng.chance(55) {
        measured::add_lab_panel(record, &visit);
    }
    if record.rng.chance(if record.is_diabetic { 60 } else { 20 }) {
        measured::add_hba1c(record, &visit);
    }
    if record.rng.chance(35) {
        add_medication_request(record, &visit.source, days_ago, Some(&visit.encounter_id));
    }
    if record.rng.chance(30) {
        add_procedure(record, &visit);
    }
    if record.rng.chance(25) {
        add_document(record, &visit);
    }
}

fn add_encounter_itself(record: &mut Record, visit: &Visit) {
    let (class, code, name) = *record.rng.pick(ENCOUNTERS);
    let days = if class == "IMP" { record.rng.between(1, 9).min(visit.days_ago) } else { 0 };
    let zone = visit.source.zone;
    let (start, end) = (day(visit.days_ago), day(visit.days_ago - days));
    let period = object(&[
        ("start", quoted(&format!("{start}T08:10:00{zone}"))),
        ("end", quoted(&format!("{end}T19:05:00{zone}"))),
    ]);
    let participant = object(&[("individual", record.practitioner())]);
    let provider = record.organization();
    let class_coding = object(&[
        ("system", quoted("http://terminology.hl7.org/CodeSystem/v3-ActCode")),
        ("code", quoted(class)),
    ]);
    let reason = if record.rng.chance(40) {
        array([reference("Condition", record.rng.pick(&record.conditions).as_str())])
    } else {
        String::new()
    };
    record.add(
        "Encounter",
        &visit.encounter_id,
        visit.days_ago,
        &[
            ("status", quoted("finished")),
            ("class", class_coding),
            ("type", array([concept([coding(SNOMED, code, name)], name)])),
            ("subject", reference("Patient", &visit.source.patient_id)),
            ("participant", array([participant])),
            ("period", period),
            ("reasonReference", reason),
            ("serviceProvider", provider),
        ],
    );
}

fn add_procedure(record: &mut Record, visit: &Visit) {
    let id = record.new_id(&visit.source);
    let (code, name) = *record.rng.pick(PROCEDURES);
    let start = record.time(visit.days_ago, &visit.source);
    let (moment, period) = if record.rng.chance(60) {
        (quoted(&start), String::new())
    } else {
        let end = format!("{}T20:00:00{}", day(visit.days_ago), visit.source.zone);
        (String::new(), object(&[("start", quoted(&start)), ("end", quoted(&end))]))
    };
    let performer = object(&[("actor", record.practitioner())]);
    record.add(
        "Procedure",
        &id,
        visit.days_ago,
        &[
            ("status", quoted("completed")),
            ("code", concept([coding(SNOMED, code, name)], name)),
            ("subject", reference("Patient", &visit.source.patient_id)),
            ("encounter", reference("Encounter", &visit.encounter_id)),
            ("performedDateTime", moment),
            ("performedPeriod", period),
            ("performer", array([performer])),
        ],
    );
}

fn add_document(record: &mut Record, visit: &Visit) {
    let id = record.new_id(&visit.source);
    let (code, name) = *record.rng.pick(DOCUMENTS);
    let at = record.time(visit.days_ago, &visit.source);
    let author = record.practitioner();
    let mut note = format!("{name} of {}\n\nMade up for the sandbox.\n", day(visit.days_ago));
    for _ in 0..record.rng.between(2, 60) {
        note.push_str("The patient reports feeling well; plan unchanged.\n");
    }
    let attachment = object(&[
        ("contentType", quoted("text/plain; charset=utf-8")),
        ("data", quoted(&base64(note.as_bytes()))),
        ("size", note.len().to_string()),
        ("title", quoted(name)),
        ("creation", quoted(&at)),
    ]);
    let category = coding(
        "http://hl7.org/fhir/us/core/CodeSystem/us-core-documentreference-category",
        "clinical-note",
        "Clinical Note",
    );
    record.add(
        "DocumentReference",
        &id,
        visit.days_ago,
        &[
            ("status", quoted("current")),
            ("type", concept([coding(LOINC, code, name)], name)),
            ("category", array([concept([category], "Clinical Note")])),
            ("subject", reference("Patient", &visit.source.patient_id)),
            // An instant, which FHIR wants to the second and with a zone.
            ("date", quoted(&at)),
            ("author", array([author])),
            ("content", array([object(&[("attachment", attachment)])])),
            ("context", object(&[("encounter", array([reference("Encounter", &visit.encounter_id)]))])),
        ],
    );
}
