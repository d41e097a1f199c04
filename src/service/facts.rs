//! Reads from the warehouse, at the end of a cycle, which patients need a person.

use super::alert_state::{AlertRules, Facts, is_behind};
use crate::plan::checkpoint::Checkpoint;
use crate::plan::state::{HeldWhy, PatientState};
use crate::roster::Roster;
use crate::settings::Settings;
use crate::warehouse::Warehouse;
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::patient::Attention;
use crate::warehouse::service::NamedPatient;

/// Returns what alerts and verdicts go by.
pub(super) async fn gather(
    warehouse: &Warehouse,
    roster: &Roster,
    settings: &Settings,
    rules: AlertRules,
) -> Result<Facts, StoreFailed> {
    let Attention { oldest_unscrubbed, ledger_fault } = warehouse.attention().await?;
    let ledger_fault = ledger_fault.as_ref().map(ToString::to_string);
    let mut facts = Facts { oldest_unscrubbed, ledger_fault, ..Facts::default() };
    facts.scrub_due = oldest_unscrubbed.and_then(|since| settings.consent.scrub.as_ref()?.next_after(since));
    warehouse.visit_patients(|patient| take_in(&mut facts, &patient, roster, rules)).await?;
    Ok(facts)
}

fn take_in(facts: &mut Facts, patient: &Checkpoint, roster: &Roster, rules: AlertRules) {
    let is_disabled = roster.patients.of(&patient.person).is_some_and(|listed| !listed.enabled);
    let is_pulled = patient.listed && patient.consent_ended_at.is_none() && !is_disabled;
    let named = || NamedPatient { person: patient.person.clone(), name: patient.name().to_owned() };
    let look = &mut facts.needs_look;
    match patient.state {
        PatientState::Held => {
            look.held += 1;
            facts.held.push(named());
            facts.held_why.extend(patient.held_why.map(HeldWhy::as_str));
        }
        PatientState::Refused => look.refused += 1,
        PatientState::Failing if is_pulled => look.failing += 1,
        PatientState::NotFound if is_pulled => look.not_found += 1,
        _ => {}
    }
    let may_be_behind = matches!(
        patient.state,
        PatientState::New | PatientState::Active | PatientState::Failing | PatientState::NotFound
    );
    if may_be_behind && is_pulled && is_behind(patient.last_success_at, rules) {
        facts.behind.push(named());
    }
}
