//! The codes that made-up patients get: small tables of real SNOMED CT, ICD-10-CM, LOINC,
//! `RxNorm` and CVX codes. Deliberately absent: completeness.

pub(super) const SNOMED: &str = "http://snomed.info/sct";
pub(super) const ICD10: &str = "http://hl7.org/fhir/sid/icd-10-cm";
pub(super) const LOINC: &str = "http://loinc.org";
pub(super) const RXNORM: &str = "http://www.nlm.nih.gov/research/umls/rxnorm";
pub(super) const CVX: &str = "http://hl7.org/fhir/sid/cvx";

#[derive(Clone, Copy)]
pub(super) struct ConditionCode {
    pub(super) snomed: &'static str,
    pub(super) icd10: &'static str,
    pub(super) name: &'static str,
    pub(super) is_chronic: bool,
}

const fn condition(
    snomed: &'static str,
    icd10: &'static str,
    name: &'static str,
    is_chronic: bool,
) -> ConditionCode {
    ConditionCode { snomed, icd10, name, is_chronic }
}

pub(super) const CONDITIONS: &[ConditionCode] = &[
    condition("59621000", "I10", "Essential hypertension", true),
    condition("55822004", "E78.5", "Hyperlipidemia", true),
    condition("195967001", "J45.909", "Asthma", true),
    condition("235595009", "K21.9", "Gastroesophageal reflux disease", true),
    condition("370143000", "F32.9", "Major depressive disorder", true),
    condition("414916001", "E66.9", "Obesity", true),
    condition("40930008", "E03.9", "Hypothyroidism", true),
    condition("396275006", "M19.90", "Osteoarthritis", true),
    condition("37796009", "G43.909", "Migraine", true),
    condition("49436004", "I48.91", "Atrial fibrillation", true),
    condition("709044004", "N18.9", "Chronic kidney disease", true),
    condition("13645005", "J44.9", "Chronic obstructive pulmonary disease", true),
    condition("10509002", "J20.9", "Acute bronchitis", false),
    condition("68566005", "N39.0", "Urinary tract infection", false),
    condition("363746003", "J02.9", "Acute pharyngitis", false),
    condition("36971009", "J32.9", "Sinusitis", false),
    condition("44465007", "S93.409A", "Sprain of ankle", false),
    condition("271737000", "D64.9", "Anemia", false),
];

pub(super) const DIABETES: ConditionCode = condition("44054006", "E11.9", "Type 2 diabetes mellitus", true);

/// A laboratory value by LOINC.
pub(super) struct Lab {
    pub(super) loinc: &'static str,
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    pub(super) range: Range,
}

const fn lab(loinc: &'static str, name: &'static str, unit: &'static str, range: Range) -> Lab {
    Lab { loinc, name, unit, range }
}

/// The values that a laboratory may report, as whole numbers of the last decimal.
#[derive(Clone, Copy)]
pub(super) struct Range {
    pub(super) least: u32,
    pub(super) most: u32,
    pub(super) decimals: usize,
}

const fn range(least: u32, most: u32, decimals: usize) -> Range {
    Range { least, most, decimals }
}

pub(super) const HBA1C: Lab =
    lab("4548-4", "Hemoglobin A1c/Hemoglobin.total in Blood", "%", range(480, 1_120, 2));

/// LOINC and name of the panel, and its parts.
pub(super) const PANELS: &[(&str, &str, &[Lab])] = &[
    (
        "24323-8",
        "Comprehensive metabolic 2000 panel - Serum or Plasma",
        &[
            lab("2345-7", "Glucose [Mass/volume] in Serum or Plasma", "mg/dL", range(68, 240, 0)),
            lab("2160-0", "Creatinine [Mass/volume] in Serum or Plasma", "mg/dL", range(60, 190, 2)),
            lab("3094-0", "Urea nitrogen [Mass/volume] in Serum or Plasma", "mg/dL", range(7, 31, 0)),
            lab("2951-2", "Sodium [Moles/volume] in Serum or Plasma", "mmol/L", range(133, 147, 0)),
            lab("2823-3", "Potassium [Moles/volume] in Serum or Plasma", "mmol/L", range(33, 54, 1)),
            lab("17861-6", "Calcium [Mass/volume] in Serum or Plasma", "mg/dL", range(84, 106, 1)),
            lab(
                "1742-6",
                "Alanine aminotransferase [Enzymatic activity/volume] in Serum or Plasma",
                "U/L",
                range(8, 72, 0),
            ),
        ],
    ),
    (
        "57698-3",
        "Lipid panel with direct LDL - Serum or Plasma",
        &[
            lab("2093-3", "Cholesterol [Mass/volume] in Serum or Plasma", "mg/dL", range(118, 290, 0)),
            lab("2571-8", "Triglyceride [Mass/volume] in Serum or Plasma", "mg/dL", range(45, 380, 0)),
            lab("2085-9", "Cholesterol in HDL [Mass/volume] in Serum or Plasma", "mg/dL", range(28, 92, 0)),
            lab(
                "18262-6",
                "Cholesterol in LDL [Mass/volume] in Serum or Plasma by Direct assay",
                "mg/dL",
                range(50, 210, 0),
            ),
        ],
    ),
    (
        "58410-2",
        "CBC panel - Blood by Automated count",
        &[
            lab("718-7", "Hemoglobin [Mass/volume] in Blood", "g/dL", range(98, 172, 1)),
            lab(
                "4544-3",
                "Hematocrit [Volume Fraction] of Blood by Automated count",
                "%",
                range(300, 510, 1),
            ),
            lab(
                "6690-2",
                "Leukocytes [#/volume] in Blood by Automated count",
                "10*3/uL",
                range(340, 1_240, 2),
            ),
            lab("777-3", "Platelets [#/volume] in Blood by Automated count", "10*3/uL", range(140, 420, 0)),
        ],
    ),
    (
        "24348-5",
        "Free T4 and TSH panel - Serum or Plasma",
        &[lab("3016-3", "Thyrotropin [Units/volume] in Serum or Plasma", "m[IU]/L", range(350, 6_200, 3))],
    ),
];

/// Of one number each; weight, height and blood pressure are made apart.
pub(super) const VITALS: &[Lab] = &[
    lab("8867-4", "Heart rate", "/min", range(52, 108, 0)),
    lab("9279-1", "Respiratory rate", "/min", range(11, 22, 0)),
    lab("8310-5", "Body temperature", "Cel", range(360, 384, 1)),
    lab("59408-5", "Oxygen saturation in Arterial blood by Pulse oximetry", "%", range(91, 100, 0)),
];

/// `RxNorm`, name, and how it is taken.
pub(super) const MEDICATIONS: &[(&str, &str, &str)] = &[
    (
        "860975",
        "24 HR metformin hydrochloride 500 MG Extended Release Oral Tablet",
        "1 tablet with the evening meal",
    ),
    ("314076", "lisinopril 10 MG Oral Tablet", "1 tablet daily"),
    ("617311", "atorvastatin 40 MG Oral Tablet", "1 tablet at bedtime"),
    ("197361", "amlodipine 5 MG Oral Tablet", "1 tablet daily"),
    ("310798", "hydrochlorothiazide 25 MG Oral Tablet", "1 tablet in the morning"),
    ("312961", "simvastatin 20 MG Oral Tablet", "1 tablet at bedtime"),
    ("198051", "omeprazole 20 MG Delayed Release Oral Capsule", "1 capsule before breakfast"),
    ("312938", "sertraline 100 MG Oral Tablet", "1 tablet daily"),
    ("313988", "furosemide 40 MG Oral Tablet", "1 tablet in the morning"),
    ("855332", "warfarin sodium 5 MG Oral Tablet", "as directed by the clinic"),
    ("310965", "ibuprofen 200 MG Oral Tablet", "2 tablets every 6 hours as needed"),
    ("308182", "amoxicillin 250 MG Oral Capsule", "1 capsule three times a day"),
];

/// CVX and name.
pub(super) const VACCINES: &[(&str, &str)] = &[
    ("140", "Influenza, seasonal, injectable, preservative free"),
    ("207", "COVID-19, mRNA, LNP-S, PF, 100 mcg/0.5mL dose"),
    ("208", "COVID-19, mRNA, LNP-S, PF, 30 mcg/0.3 mL dose"),
    ("115", "Tdap"),
    ("33", "pneumococcal polysaccharide PPV23"),
    ("187", "zoster recombinant"),
    ("43", "Hep B, adult"),
    ("03", "MMR"),
];

/// SNOMED CT, name, and the kind of substance.
pub(super) const ALLERGIES: &[(&str, &str, &str)] = &[
    ("91936005", "Allergy to penicillin", "medication"),
    ("91935009", "Allergy to peanut", "food"),
    ("300913006", "Allergy to shellfish", "food"),
    ("300916003", "Latex allergy", "environment"),
    ("424213003", "Allergy to bee venom", "environment"),
    ("91934008", "Allergy to nut", "food"),
];

pub(super) const REACTIONS: &[(&str, &str)] =
    &[("126485001", "Urticaria"), ("39579001", "Anaphylaxis"), ("271807003", "Eruption of skin")];

pub(super) const PROCEDURES: &[(&str, &str)] = &[
    ("73761001", "Colonoscopy"),
    ("80146002", "Appendectomy"),
    ("399208008", "Plain X-ray of chest"),
    ("29303009", "Electrocardiographic procedure"),
    ("171207006", "Depression screening"),
    ("430193006", "Medication reconciliation"),
    ("127783003", "Spirometry"),
    ("71388002", "Procedure"),
];

/// Class, SNOMED CT, and name; the more frequent ones stand there more often.
pub(super) const ENCOUNTERS: &[(&str, &str, &str)] = &[
    ("AMB", "185349003", "Encounter for check up"),
    ("AMB", "185345009", "Encounter for symptom"),
    ("AMB", "390906007", "Follow-up encounter"),
    ("AMB", "185349003", "Encounter for check up"),
    ("VR", "448337001", "Telemedicine consultation with patient"),
    ("EMER", "50849002", "Emergency room admission"),
    ("IMP", "32485007", "Hospital admission"),
];

/// LOINC and name.
pub(super) const DOCUMENTS: &[(&str, &str)] = &[
    ("11506-3", "Progress note"),
    ("34117-2", "History and physical note"),
    ("18842-5", "Discharge summary"),
];

pub(super) const FAMILY_NAMES: &[&str] = &[
    "Ashgrove",
    "Birchwater",
    "Cobblefield",
    "Dunmarrow",
    "Elderstone",
    "Fernhollow",
    "Güntersen",
    "Hazelwick",
    "Ivorsson",
    "Jórvik",
    "Kettleburn",
    "Larkmoor",
    "Núñez-Vale",
    "O'Brackan",
    "Pemberlow",
    "Quillfeather",
];

pub(super) const FEMALE_NAMES: &[&str] =
    &["Amaryl", "Briony", "Célestine", "Delphira", "Elowen", "Fennella", "Zoë"];

pub(super) const MALE_NAMES: &[&str] = &["Aldous", "Bertrand", "Corwin", "Dorian", "Edric", "Fábio", "Osric"];

/// Town, state and postal code.
pub(super) const TOWNS: &[(&str, &str, &str)] = &[
    ("Millbrook Hollow", "MA", "01099"),
    ("Stonebridge", "OH", "43999"),
    ("Lower Fenwick", "WA", "98999"),
    ("Santa Mirabel", "NM", "87999"),
];
