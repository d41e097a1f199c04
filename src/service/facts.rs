//! Reads from the warehouse, at the end of a cycle, which patients need a person.

use std::collections::HashSet;

use super::alert_state::{Facts, PulledPatient};
use crate::plan::PersonId;
use crate::plan::state::{HeldWhy, PatientState};
use crate::roster::Roster;
use crate::settings::Settings;
use crate::warehouse::patient::Attention;
use crate::warehouse::service::NamedPatient;

/// Sorts what the warehouse knows into what alerts and verdicts go by.
pub(super) fn sort(attention: &Attention, roster: &Roster, settings: &Settings) -> Facts {
    let Attention { patients, oldest_unscrubbed, ledger_fault } = attention;
    let oldest_unscrubbed = *oldest_unscrubbed;
    let disabled: HashSet<&PersonId> =
        roster.patients.iter().filter(|patient| !patient.enabled).map(|patient| &patient.person).collect();
    let ledger_fault = ledger_fault.as_ref().map(ToString::to_string);
    let mut facts = Facts { oldest_unscrubbed, ledger_fault, ..Facts::default() };
    facts.scrub_due = oldest_unscrubbed.and_then(|since| settings.consent.scrub.as_ref()?.next_after(since));
    for patient in patients {
        let is_pulled =
            patient.listed && patient.consent_ended_at.is_none() && !disabled.contains(&patient.person);
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
        if may_be_behind && is_pulled {
            let last_success_at = patient.last_success_at;
            facts.pulled.push(PulledPatient { patient: named(), last_success_at });
        }
    }
    facts
}
