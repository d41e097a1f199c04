//! A resource without what says who it is about.
//!
//! Promise: what is not known to be harmless is left out. Kept are codes, numbers, dates and times, the codings of
//! `CodeableConcept`s, three digits of a postal code, and ids and references under their pseudonyms; of extensions, race, ethnicity
//! and sex. A resource with a `modifierExtension` is left out as a whole: without it, it would mean something else.
//! Absent on purpose: a look at free text. None of it stays, whatever it says.

use super::code;
use super::known_words::KnownWords;
use super::pseudonym::{Dates, Pseudonyms};
use crate::plan::resource_type::ResourceType;
use crate::views::{At, Element, Json, Kind, Tape, TapeMemory, element};

/// What is needed to redact the resources of one person.
#[derive(Clone, Copy)]
pub(super) struct Redaction<'r> {
    pub(super) pseudonyms: &'r Pseudonyms,
    pub(super) known: &'r KnownWords,
    pub(super) person_id: &'r str,
}

/// Deeper than any resource that is meant.
const DEPTH_MAX: usize = 40;

/// Types that are nothing but what has to go.
const WITHHELD: [&str; 9] = [
    "Narrative",
    "HumanName",
    "ContactPoint",
    "Identifier",
    "Attachment",
    "Annotation",
    "Signature",
    "ContactDetail",
    "RelatedArtifact",
];

/// The extensions that are kept, with their codes.
const EXTENSIONS: [&str; 5] = [
    "http://hl7.org/fhir/us/core/StructureDefinition/us-core-race",
    "http://hl7.org/fhir/us/core/StructureDefinition/us-core-ethnicity",
    "http://hl7.org/fhir/us/core/StructureDefinition/us-core-birthsex",
    "http://hl7.org/fhir/us/core/StructureDefinition/us-core-sex",
    "http://hl7.org/fhir/us/core/StructureDefinition/us-core-genderIdentity",
];

/// The parts of those extensions.
const PARTS: [&str; 2] = ["ombCategory", "detailed"];

/// Which questions were answered.
const QUESTIONNAIRE: (&str, &str) = ("QuestionnaireResponse", "questionnaire");

/// Why a resource is left out as a whole.
struct Withheld;

type Written = Result<bool, Withheld>;

impl Redaction<'_> {
    /// Returns the resource as it may be told, as JSON; `None` where it is left out.
    pub(super) fn resource(&self, resource: &str, memory: &mut TapeMemory) -> Option<String> {
        let tape = Tape::read(resource, memory).ok()?;
        let mut out = String::with_capacity(resource.len());
        let writer = Writer { redaction: self, tape: &tape };
        match writer.resource(tape.root(), 0, &mut out) {
            Ok(true) => Some(out),
            Ok(false) | Err(Withheld) => None,
        }
    }

    /// Returns whether a text that has the form of a code or a term may be told of this person.
    pub(super) fn is_harmless(&self, text: &str) -> bool {
        !self.known.stand_in(self.person_id, text)
    }

    /// Returns whether the display of a code may be told.
    pub(super) fn may_display(&self, system: &str, display: &str) -> bool {
        code::is_public(system) && self.is_harmless(display)
    }

    /// Returns whether a code may be told. Of a public list it says what it says in there.
    pub(super) fn may_code(&self, system: Option<&str>, text: &str) -> bool {
        match system {
            Some(system) if code::is_public(system) => code::is_code(text),
            _ => code::is_local_code(text) && self.is_harmless(text),
        }
    }
}

struct Writer<'w, 't> {
    redaction: &'w Redaction<'w>,
    tape: &'w Tape<'t>,
}

impl Writer<'_, '_> {
    /// Writes a resource; false, and nothing, where it has none of a known type.
    fn resource(&self, at: At, depth: usize, out: &mut String) -> Written {
        let type_name = self.tape.member(at, "resourceType").map(|name| self.tape.text(name));
        let Some(known) = type_name.and_then(|name| ResourceType::by_name(&name)) else { return Ok(false) };
        out.push_str("{\"resourceType\":\"");
        out.push_str(known.name);
        out.push('"');
        if let Some(id) = self.tape.member(at, "id").filter(|id| self.tape.json(*id) == Json::Text) {
            out.push_str(",\"id\":");
            push_text(&self.redaction.pseudonyms.id(&self.tape.text(id)), out);
        }
        self.members(at, known.name, depth, true, out)?;
        out.push('}');
        Ok(true)
    }

    /// Writes an object of a type; false, and nothing, where nothing of it stays.
    fn object(&self, at: At, type_name: &str, depth: usize, out: &mut String) -> Written {
        if self.tape.json(at) != Json::Object || depth > DEPTH_MAX || WITHHELD.contains(&type_name) {
            return Ok(false);
        }
        let start = out.len();
        out.push('{');
        let any = match type_name {
            "Reference" => self.reference(at, out),
            "Address" => self.address(at, out),
            "Coding" => self.coding(at, out),
            "Extension" => self.extension(at, depth, out)?,
            "Meta" => self.meta(at, depth, out)?,
            _ => self.members(at, type_name, depth, false, out)?,
        };
        out.push('}');
        if !any {
            out.truncate(start);
        }
        Ok(any)
    }

    /// Writes what stays of an object's members, each after a comma if others stand before it.
    fn members(&self, at: At, type_name: &str, depth: usize, others: bool, out: &mut String) -> Written {
        let mut any = others;
        for (name, value) in self.tape.members(at) {
            if name == "modifierExtension" {
                return Err(Withheld);
            }
            // Of a primitive's companion (`_birthDate`) no element is known, so that it goes.
            let Some(known) = element(type_name, &name) else { continue };
            any |= self.member(known, value, type_name, depth, any, out)?;
        }
        Ok(any)
    }

    fn member(
        &self,
        known: Element,
        value: At,
        owner: &str,
        depth: usize,
        others: bool,
        out: &mut String,
    ) -> Written {
        let start = out.len();
        if others {
            out.push(',');
        }
        push_text(known.name, out);
        out.push(':');
        let any = if self.tape.json(value) == Json::Array {
            self.array(known, value, owner, depth, out)?
        } else {
            self.value(known, value, owner, depth, out)?
        };
        if !any {
            out.truncate(start);
        }
        Ok(any)
    }

    fn array(&self, known: Element, array: At, owner: &str, depth: usize, out: &mut String) -> Written {
        out.push('[');
        let mut any = false;
        for value in self.tape.elements(array) {
            let start = out.len();
            if any {
                out.push(',');
            }
            if self.value(known, value, owner, depth, out)? {
                any = true;
            } else {
                out.truncate(start);
            }
        }
        out.push(']');
        Ok(any)
    }

    fn value(&self, known: Element, value: At, owner: &str, depth: usize, out: &mut String) -> Written {
        Ok(match known.kind {
            Kind::Complex("Resource") if depth <= DEPTH_MAX => self.resource(value, depth + 1, out)?,
            Kind::Complex(type_name) => self.object(value, type_name, depth + 1, out)?,
            Kind::Boolean => {
                self.push_if(matches!(self.tape.json(value), Json::True | Json::False), value, out)
            }
            Kind::Integer | Kind::Decimal => self.number(value, out),
            Kind::Date | Kind::DateTime | Kind::Instant => self.date(value, out),
            Kind::Time => {
                let text = self.tape.text(value);
                let is_time = text.len() <= 18
                    && text.bytes().all(|byte| byte.is_ascii_digit() || b":.".contains(&byte));
                self.tape.json(value) == Json::Text && is_time && push(&text, out)
            }
            Kind::String => self.string(value, owner, known.name, out),
            Kind::Nothing => false,
        })
    }

    fn push_if(&self, may: bool, value: At, out: &mut String) -> bool {
        if may {
            out.push_str(self.tape.written(value));
        }
        may
    }

    /// A number with its digits; also one in quotes, as some send it.
    fn number(&self, value: At, out: &mut String) -> bool {
        match self.tape.json(value) {
            Json::Integer | Json::Decimal => self.push_if(true, value, out),
            Json::Text => {
                let text = self.tape.text(value);
                text.len() <= 40 && text.trim().parse::<f64>().is_ok() && push(&text, out)
            }
            _ => false,
        }
    }

    fn date(&self, value: At, out: &mut String) -> bool {
        if self.tape.json(value) != Json::Text {
            return false;
        }
        let Redaction { pseudonyms, person_id, .. } = self.redaction;
        pseudonyms.date(person_id, &self.tape.text(value)).is_some_and(|told| push(&told, out))
    }

    fn string(&self, value: At, owner: &str, name: &str, out: &mut String) -> bool {
        if self.tape.json(value) != Json::Text {
            return false;
        }
        let text = self.tape.text(value);
        let is_quantity = element(owner, "comparator").is_some() && element(owner, "unit").is_some();
        let may = match (owner, name) {
            (_, "unit") if is_quantity => code::is_unit(&text) && self.redaction.is_harmless(&text),
            _ if is_quantity && name == "system" || (owner, name) == QUESTIONNAIRE => {
                code::is_system(&text) && self.redaction.is_harmless(&text)
            }
            ("QuestionnaireResponseItem", "linkId") => self.redaction.may_code(None, &text),
            _ => code::is_code_element(owner, name) && self.redaction.may_code(None, &text),
        };
        may && push(&text, out)
    }

    fn text_of(&self, at: At, name: &str) -> Option<std::borrow::Cow<'_, str>> {
        let found = self.tape.member(at, name)?;
        (self.tape.json(found) == Json::Text).then(|| self.tape.text(found))
    }

    fn reference(&self, at: At, out: &mut String) -> bool {
        let reference = self.text_of(at, "reference");
        let Some(told) = reference.and_then(|text| self.redaction.pseudonyms.reference(&text)) else {
            return false;
        };
        out.push_str("\"reference\":");
        push(&told, out)
    }

    fn address(&self, at: At, out: &mut String) -> bool {
        let postal_code = self.text_of(at, "postalCode");
        let Some(three) = postal_code.and_then(|text| code::three_digits(&text)) else { return false };
        out.push_str("\"postalCode\":");
        push(&three, out)
    }

    fn coding(&self, at: At, out: &mut String) -> bool {
        let Some(text) = self.text_of(at, "code") else { return false };
        let system = self.text_of(at, "system");
        let system =
            system.as_deref().filter(|text| code::is_system(text) && self.redaction.is_harmless(text));
        if !self.redaction.may_code(system, &text) {
            return false;
        }
        if let Some(system) = system {
            out.push_str("\"system\":");
            push_text(system, out);
            out.push(',');
        }
        out.push_str("\"code\":");
        push_text(&text, out);
        let display = self.text_of(at, "display");
        if let (Some(system), Some(display)) = (system, display)
            && self.redaction.may_display(system, &display)
        {
            out.push_str(",\"display\":");
            push_text(&display, out);
        }
        let selected = self.tape.member(at, "userSelected");
        if selected.is_some_and(|selected| self.tape.json(selected) == Json::True) {
            out.push_str(",\"userSelected\":true");
        }
        true
    }

    /// An extension of the list, or a part of one; the text of it goes, and with it a part that is nothing else.
    fn extension(&self, at: At, depth: usize, out: &mut String) -> Written {
        let Some(url) = self.text_of(at, "url") else { return Ok(false) };
        if !EXTENSIONS.contains(&url.as_ref()) && !PARTS.contains(&url.as_ref()) {
            return Ok(false);
        }
        out.push_str("\"url\":");
        push_text(&url, out);
        let before = out.len();
        self.members(at, "Extension", depth, true, out)?;
        Ok(out.len() > before)
    }

    fn meta(&self, at: At, depth: usize, out: &mut String) -> Written {
        let mut any = false;
        for name in ["lastUpdated", "security"] {
            if name == "lastUpdated" && matches!(self.redaction.pseudonyms.dates(), Dates::Shifted) {
                continue;
            }
            if let (Some(value), Some(known)) = (self.tape.member(at, name), element("Meta", name)) {
                any |= self.member(known, value, "Meta", depth, any, out)?;
            }
        }
        Ok(any)
    }
}

fn push(text: &str, out: &mut String) -> bool {
    push_text(text, out);
    true
}

fn push_text(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}
