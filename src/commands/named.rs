//! Which patient an argument of a command means: by its id, or by its label.

use super::in_force::in_force_by;
use crate::plan::PersonId;
use crate::roster::{self, Roster};
use crate::settings::{Complaints, Settings};
use crate::warehouse::Reader;

/// Returns the patient that `text` means to a command which reads the warehouse.
///
/// A label is looked for in the warehouse and in the roster, as far as it can be read: of a purged
/// patient only the roster has it.
///
/// # Errors
///
/// A complaint if several patients have the label, or if `text` can be no id; an error of the
/// warehouse as it is.
pub(super) fn known_patient(settings: &Settings, reader: &Reader, text: &str) -> anyhow::Result<PersonId> {
    if let Ok(person) = PersonId::parse(text)
        && reader.knows(&person)?
    {
        return Ok(person);
    }
    let mut labelled = reader.labelled(text)?;
    if let Ok(files) = roster::load(&settings.roster) {
        let (roster, _) = in_force_by(reader, &files, &settings.roster)?;
        labelled.extend(labelled_in(&roster, text));
    }
    Ok(one_of(labelled, text).map_err(Complaints::one)?)
}

/// Returns the patient of the roster that `text` means, or what is wrong.
pub(super) fn listed_patient(roster: &Roster, text: &str) -> Result<PersonId, String> {
    let is_listed = |person: &PersonId| roster.patients.iter().any(|patient| patient.person == *person);
    if let Some(person) = PersonId::parse(text).ok().filter(is_listed) {
        return Ok(person);
    }
    let person = one_of(labelled_in(roster, text).collect(), text)?;
    if is_listed(&person) { Ok(person) } else { Err(format!("{person}: the roster does not list it")) }
}

fn labelled_in(roster: &Roster, label: &str) -> impl Iterator<Item = PersonId> {
    let labelled = roster.patients.iter().filter(move |patient| patient.label.as_deref() == Some(label));
    labelled.map(|patient| patient.person.clone())
}

/// Returns the one patient of a label; without any, `text` is taken for an id.
fn one_of(mut labelled: Vec<PersonId>, text: &str) -> Result<PersonId, String> {
    labelled.sort();
    labelled.dedup();
    match labelled.as_slice() {
        [] => PersonId::parse(text).map_err(|error| error.to_string()),
        [person] => Ok(person.clone()),
        several => Err(format!("{text}: {} patients have this label; give the id", several.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_means_one_patient() {
        let person = |id: &str| PersonId::parse(id).unwrap();
        assert_eq!(one_of(vec![person("p1")], "anna"), Ok(person("p1")));
        // The roster and the warehouse both have it.
        assert_eq!(one_of(vec![person("p1"), person("p1")], "anna"), Ok(person("p1")));
        assert_eq!(one_of(Vec::new(), "p2"), Ok(person("p2")));
        let several = one_of(vec![person("p2"), person("p1")], "anna").unwrap_err();
        assert_eq!(several, "anna: 2 patients have this label; give the id");
        assert!(one_of(Vec::new(), "Anna B.").is_err());
    }
}
