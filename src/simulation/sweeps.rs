//! What is always true of sweeps: which wait, and which may not.

use super::look::Patient;
use super::moment::{CLOCK_MAX, DAY, Moment, Untrue, untrue};
use super::people::Person;

fn is_clinical(key: &str) -> bool {
    !key.starts_with("Person/") && !key.starts_with("Patient/")
}

/// "If what remains to mark is more than 20 rows and more than half of the patient's, or all of them but the
/// Person and Patients, nothing is marked; a full pull is due 24 hours later, which then sweeps."
pub(super) fn a_suspicious_sweep_waits_a_day(
    moment: &Moment<'_>,
    person: &mut Person,
    patient: &Patient,
) -> Result<(), Untrue> {
    let waits_since = std::mem::replace(&mut person.sweep_waits_since, patient.guarded_at);
    let look = moment.look;
    // What was live at the last look, or was removed after it.
    let is_marked = |key: &&String| look.is_marked(&person.id, key);
    // By the types of the pull, which are those of a file only as long as it lists the patient.
    let marked: Vec<&String> =
        person.removed.keys().filter(|key| patient.is_of(key)).filter(is_marked).collect();
    // It is by our clock.
    let is_other = moment.now - person.types_since < DAY + CLOCK_MAX;
    if is_other || marked.is_empty() || waits_since.is_some_and(|since| moment.now - since >= DAY - CLOCK_MAX)
    {
        return Ok(());
    }
    let live = look.rows(&person.id);
    let is_asked = |key: &String| is_clinical(key) && patient.is_of(key);
    let is_all = marked.iter().any(|key| is_clinical(key)) && !live.keys().any(is_asked);
    let is_much = marked.len() > 20 && marked.len() > live.len();
    if !is_all && !is_much {
        return Ok(());
    }
    let shows = format!("{} rows of {} were marked, {} are left", marked.len(), person.id, live.len());
    untrue("a sweep that would mark suspiciously much waits for a day", shows)
}

/// Returns whether the sweep of anybody rightly waits for a day.
pub(super) fn a_sweep_waits(moment: &Moment<'_>, persons: &[Person]) -> Result<bool, Untrue> {
    let mut waits = false;
    for person in persons.iter().filter(|person| person.has_consented && person.is_pulled(moment.now)) {
        if moment.patient(person).is_none_or(|patient| patient.guarded_at.is_none()) {
            continue;
        }
        let (have, want) = (moment.look.rows(&person.id), person.wanted(moment.server));
        let asked = || have.keys().filter(|key| person.asks_for(key));
        let clinical = asked().filter(|key| is_clinical(key)).count();
        let gone: Vec<&String> = asked().filter(|key| !want.contains_key(*key)).collect();
        let is_much = gone.len() > 20 && gone.len() * 2 > have.len();
        let is_all = gone.iter().filter(|key| is_clinical(key)).count() == clinical && clinical > 0;
        if !is_much && !is_all {
            let shows = format!("{} of {} rows of {} are gone", gone.len(), have.len(), person.id);
            return untrue("a sweep waits only where it would mark suspiciously much", shows);
        }
        waits = true;
    }
    Ok(waits)
}
