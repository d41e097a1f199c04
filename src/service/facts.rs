//! Reads from the warehouse, at the end of a cycle, which patients need a person.

use std::collections::HashSet;

use super::problems::{Facts, PulledPatient};
use crate::plan::state::{HeldWhy, PatientState};
use crate::plan::{PersonId, Timestamp};
use crate::roster::Roster;
use crate::settings::Settings;
use crate::warehouse::Warehouse;
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::patient::Attention;

/// Reads the facts, and notes a cycle that ended well.
pub(super) async fn gather(
    warehouse: &Warehouse,
    roster: &Roster,
    settings: &Settings,
    good_end: Option<Timestamp>,
) -> Result<Facts, StoreFailed> {
    let Attention { patients, oldest_unscrubbed, ledger_fault } = warehouse.attention(good_end).await?;
    let disabled: HashSet<&PersonId> =
        roster.patients.iter().filter(|patient| !patient.enabled).map(|patient| &patient.person).collect();
    let ledger_fault = ledger_fault.map(|fault| fault.to_string());
    let mut facts = Facts { oldest_unscrubbed, ledger_fault, ..Facts::default() };
    facts.scrub_due = oldest_unscrubbed.and_then(|since| settings.consent.scrub.as_ref()?.next_after(since));
    for patient in &patients {
        match patient.state {
            PatientState::Held => {
                facts.held.push(patient.name().to_owned());
                facts.held_why.extend(patient.held_why.map(HeldWhy::as_str));
            }
            PatientState::New | PatientState::Active | PatientState::Failing | PatientState::NotFound
                if patient.listed
                    && patient.consent_ended_at.is_none()
                    && !disabled.contains(&patient.person) =>
            {
                let last_success_at = patient.last_success_at;
                facts.pulled.push(PulledPatient { name: patient.name().to_owned(), last_success_at });
            }
            _ => {}
        }
    }
    Ok(facts)
}
