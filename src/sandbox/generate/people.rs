//! Generates the Person, their Patients, those who treat them and those who pay.

use super::super::text::{array, object, quoted};
use super::codes::{FAMILY_NAMES, FEMALE_NAMES, MALE_NAMES, TOWNS};
use super::record::{Record, coding, day, reference, status_concept};
use super::seeded_rng::SeededRng;

/// Practitioners and organizations are shared between the records of a seed, as in life: the
/// same text, so the same address.
const PRACTITIONERS: u32 = 40;
const ORGANIZATIONS: u32 = 12;

struct Identity {
    gender: &'static str,
    name: String,
    birth_date: String,
    address: String,
    phone: String,
}

pub(super) fn add_identity(record: &mut Record, person_id: &str) {
    let identity = new_identity(record);
    let links: Vec<String> = record
        .sources
        .iter()
        .map(|source| object(&[("target", reference("Patient", &source.patient_id))]))
        .collect();
    record.resources.push(object(&[
        ("resourceType", quoted("Person")),
        ("id", quoted(person_id)),
        ("name", array([identity.name.clone()])),
        ("gender", quoted(identity.gender)),
        ("birthDate", quoted(&identity.birth_date)),
        ("active", "true".to_owned()),
        ("link", array(links)),
    ]));
    for source in record.sources.clone() {
        add_patient(record, &source.patient_id, &identity);
    }
}

fn new_identity(record: &mut Record) -> Identity {
    let rng = &mut record.rng;
    let (gender, given) =
        if rng.chance(50) { ("female", *rng.pick(FEMALE_NAMES)) } else { ("male", *rng.pick(MALE_NAMES)) };
    let family = rng.pick(FAMILY_NAMES);
    let (town, state, postal_code) = rng.pick(TOWNS);
    let street = format!("{} Sample Street", rng.between(1, 980));
    Identity {
        gender,
        name: object(&[
            ("use", quoted("official")),
            ("text", quoted(&format!("{given} {family}"))),
            ("family", quoted(family)),
            ("given", array([quoted(given)])),
        ]),
        birth_date: day(record.born_days_ago).to_string(),
        address: object(&[
            ("use", quoted("home")),
            ("line", array([quoted(&street)])),
            ("city", quoted(town)),
            ("state", quoted(state)),
            ("postalCode", quoted(postal_code)),
            ("country", quoted("US")),
        ]),
        phone: format!("555-01{}", rng.digits(2)),
    }
}

fn add_patient(record: &mut Record, patient_id: &str, identity: &Identity) {
    let number = record.rng.digits(7);
    let identifier = object(&[
        ("use", quoted("usual")),
        ("type", status_concept("v2-0203", "MR")),
        ("system", quoted("urn:oid:1.2.840.113619.2.999")),
        ("value", quoted(&number)),
    ]);
    let telecom =
        object(&[("system", quoted("phone")), ("value", quoted(&identity.phone)), ("use", quoted("home"))]);
    let language = coding("urn:ietf:bcp:47", "en-US", "English (United States)");
    let communication =
        object(&[("language", object(&[("coding", array([language]))])), ("preferred", "true".to_owned())]);
    let marital_status = *record.rng.pick(&["M", "S", "D", "W"]);
    let extensions = us_core_extensions(&mut record.rng, identity.gender);
    record.add(
        "Patient",
        patient_id,
        400,
        &[
            ("extension", extensions),
            ("identifier", array([identifier])),
            ("active", "true".to_owned()),
            ("name", array([identity.name.clone()])),
            ("telecom", array([telecom])),
            ("gender", quoted(identity.gender)),
            ("birthDate", quoted(&identity.birth_date)),
            ("deceasedBoolean", "false".to_owned()),
            ("address", array([identity.address.clone()])),
            ("maritalStatus", status_concept("v3-MaritalStatus", marital_status)),
            ("communication", array([communication])),
        ],
    );
}

fn us_core_extensions(rng: &mut SeededRng, gender: &str) -> String {
    const RACES: &[(&str, &str)] =
        &[("2106-3", "White"), ("2054-5", "Black or African American"), ("2028-9", "Asian")];
    const ETHNICITIES: &[(&str, &str)] =
        &[("2186-5", "Not Hispanic or Latino"), ("2135-2", "Hispanic or Latino")];
    let nested = |name: &str, (code, display): (&str, &str)| {
        let coded = object(&[
            ("url", quoted("ombCategory")),
            ("valueCoding", coding("urn:oid:2.16.840.1.113883.6.238", code, display)),
        ]);
        let text = object(&[("url", quoted("text")), ("valueString", quoted(display))]);
        let url = format!("http://hl7.org/fhir/us/core/StructureDefinition/us-core-{name}");
        object(&[("url", quoted(&url)), ("extension", array([coded, text]))])
    };
    let race = nested("race", *rng.pick(RACES));
    let ethnicity = nested("ethnicity", *rng.pick(ETHNICITIES));
    let birth_sex = object(&[
        ("url", quoted("http://hl7.org/fhir/us/core/StructureDefinition/us-core-birthsex")),
        ("valueCode", quoted(if gender == "female" { "F" } else { "M" })),
    ]);
    array([race, ethnicity, birth_sex])
}

pub(super) fn add_care_givers(record: &mut Record) {
    for number in some_of(&mut record.rng, ORGANIZATIONS, 2, 4) {
        let (id, text) = organization(record.seed, number);
        record.organizations.push(id);
        record.resources.push(text);
    }
    for number in some_of(&mut record.rng, PRACTITIONERS, 3, 6) {
        let (id, text) = practitioner(record.seed, number);
        record.practitioners.push(id);
        record.resources.push(text);
    }
}

/// Picks a few different numbers below a limit.
fn some_of(rng: &mut SeededRng, limit: u32, least: u32, most: u32) -> impl Iterator<Item = u32> + use<> {
    let (first, count) = (rng.below(limit), rng.between(least, most));
    (0..count).map(move |number| (first + number) % limit)
}

fn organization(seed: u64, number: u32) -> (String, String) {
    let mut rng = SeededRng::for_person(seed ^ 0x6f72_6700, number as usize + 1);
    let id = format!("org-{}.{}", rng.word(12), number + 1);
    let (town, state, _) = rng.pick(TOWNS);
    let kind = *rng.pick(&["Community Hospital", "Family Medicine", "Health Partners", "Clinic"]);
    let text = object(&[
        ("resourceType", quoted("Organization")),
        ("id", quoted(&id)),
        ("active", "true".to_owned()),
        ("type", array([status_concept("organization-type", "prov")])),
        ("name", quoted(&format!("{town} {kind}"))),
        ("address", array([object(&[("city", quoted(town)), ("state", quoted(state))])])),
    ]);
    (id, text)
}

fn practitioner(seed: u64, number: u32) -> (String, String) {
    let mut rng = SeededRng::for_person(seed ^ 0x7072_6163, number as usize + 1);
    let id = format!("prac-{}-{}", rng.word(16), number + 1);
    let (given, family) = (*rng.pick(FEMALE_NAMES), *rng.pick(FAMILY_NAMES));
    let identifier = object(&[
        ("system", quoted("http://hl7.org/fhir/sid/us-npi")),
        ("value", quoted(&format!("9{}", rng.digits(9)))),
    ]);
    let name = object(&[
        ("text", quoted(&format!("Dr. {given} {family}"))),
        ("family", quoted(family)),
        ("given", array([quoted(given)])),
        ("prefix", array([quoted("Dr.")])),
    ]);
    let text = object(&[
        ("resourceType", quoted("Practitioner")),
        ("id", quoted(&id)),
        ("identifier", array([identifier])),
        ("active", "true".to_owned()),
        ("name", array([name])),
    ]);
    (id, text)
}

pub(super) fn add_coverages(record: &mut Record) {
    for number in 0..record.rng.between(1, 3) {
        let source = record.source();
        let id = record.new_id(&source);
        let begun_days_ago = record.rng.between(200, 2_500) + number * 365;
        let ended = if number == 0 { String::new() } else { quoted(&day(begun_days_ago - 200).to_string()) };
        let period = object(&[("start", quoted(&day(begun_days_ago).to_string())), ("end", ended)]);
        let patient = reference("Patient", &source.patient_id);
        let kind = *record.rng.pick(&["EHCPOL", "PUBLICPOL", "HMO"]);
        let member = record.rng.digits(9);
        let payor = record.organization();
        let plan = object(&[
            ("type", status_concept("coverage-class", "plan")),
            ("value", quoted(&format!("PLAN-{}", &member[..3]))),
            ("name", quoted("Sample Choice Plus")),
        ]);
        record.add(
            "Coverage",
            &id,
            begun_days_ago,
            &[
                ("status", quoted(if number == 0 { "active" } else { "cancelled" })),
                ("type", status_concept("v3-ActCode", kind)),
                ("subscriberId", quoted(&member)),
                ("beneficiary", patient),
                ("relationship", status_concept("subscriber-relationship", "self")),
                ("period", period),
                ("payor", array([payor])),
                ("class", array([plan])),
            ],
        );
    }
}
