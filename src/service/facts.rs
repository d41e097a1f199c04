//! Reads from the warehouse, at the end of a cycle, which patients need a person.

use std::collections::HashSet;

use super::problems::{Facts, PulledPatient};
use crate::cycle::name_of;
use crate::plan::{PatientState, PersonId, Timestamp};
use crate::roster::Roster;
use crate::settings::Settings;
use crate::warehouse::failure::StoreFailed;
use crate::warehouse::writer::Warehouse;
use crate::warehouse::{checkpoint, purge};

/// Reads the facts, and notes a cycle that ended well.
pub(super) async fn gather(
    warehouse: &Warehouse,
    roster: &Roster,
    settings: &Settings,
    good_end: Option<Timestamp>,
) -> Result<Facts, StoreFailed> {
    let (patients, oldest_unscrubbed) = warehouse
        .write(move |connection| {
            if let Some(now) = good_end {
                checkpoint::note_good_cycle(connection, now)?;
            }
            Ok((checkpoint::all(connection)?, purge::oldest_unscrubbed(connection)?))
        })
        .await?;
    let pulled: HashSet<&PersonId> =
        roster.patients.iter().filter(|patient| patient.enabled).map(|patient| &patient.person).collect();
    let mut facts = Facts { oldest_unscrubbed, ..Facts::default() };
    facts.scrub_due = oldest_unscrubbed.and_then(|since| settings.consent.scrub.as_ref()?.next_after(since));
    for patient in &patients {
        match patient.standing.state {
            PatientState::Held => facts.held.push(name_of(patient)),
            PatientState::New | PatientState::Active | PatientState::Failing | PatientState::NotFound
                if pulled.contains(&patient.person) =>
            {
                let last_success_at = patient.standing.last_success_at;
                facts.pulled.push(PulledPatient { name: name_of(patient), last_success_at });
            }
            _ => {}
        }
    }
    Ok(facts)
}
