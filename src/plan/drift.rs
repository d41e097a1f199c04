//! Where roster and warehouse differ, for somebody who asks between two cycles.

use super::state::PatientState;

/// One patient, by what the roster and the warehouse know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub listed: bool,
    pub enabled: bool,
    /// `None` where the warehouse has never heard of it.
    pub state: Option<PatientState>,
    pub has_rows: bool,
}

/// How many patients are not simply kept in step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Drift {
    pub in_step: u64,
    pub never_pulled: u64,
    /// The warehouse has rows of them, and no roster lists them.
    pub unlisted: u64,
    pub disabled: u64,
    pub failing: u64,
    pub held: u64,
    /// Refused, and asked again by the next cycle.
    pub refused: u64,
    pub revoked: u64,
    pub not_found: u64,
    /// Purged by an operator, and left alone since.
    pub paused: u64,
}

impl Drift {
    pub(crate) fn of(patients: impl IntoIterator<Item = Known>) -> Self {
        let mut drift = Self::default();
        for patient in patients {
            if let Some(count) = drift.count_for(patient) {
                *count += 1;
            }
        }
        drift
    }

    fn count_for(&mut self, patient: Known) -> Option<&mut u64> {
        if !patient.listed {
            // What is known of a patient outlives its rows, and is nothing to act on.
            return patient.has_rows.then_some(&mut self.unlisted);
        }
        if !patient.enabled {
            return Some(&mut self.disabled);
        }
        Some(match patient.state {
            None | Some(PatientState::New) => &mut self.never_pulled,
            Some(PatientState::Active) => &mut self.in_step,
            Some(PatientState::Failing) => &mut self.failing,
            Some(PatientState::Held) => &mut self.held,
            Some(PatientState::Refused) => &mut self.refused,
            Some(PatientState::Revoked) => &mut self.revoked,
            Some(PatientState::NotFound) => &mut self.not_found,
            Some(PatientState::Paused) => &mut self.paused,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patient_counts_once_and_one_that_left_without_rows_not_at_all() {
        let check = |listed, enabled, state, has_rows, expected: Drift| {
            let patient = Known { listed, enabled, state, has_rows };
            assert_eq!(Drift::of([patient]), expected, "{patient:?}");
        };
        let none = Drift::default();
        check(true, true, Some(PatientState::Active), true, Drift { in_step: 1, ..none });
        check(true, true, None, false, Drift { never_pulled: 1, ..none });
        check(true, true, Some(PatientState::New), false, Drift { never_pulled: 1, ..none });
        check(true, false, Some(PatientState::Active), true, Drift { disabled: 1, ..none });
        check(true, true, Some(PatientState::Held), true, Drift { held: 1, ..none });
        check(false, false, Some(PatientState::Active), true, Drift { unlisted: 1, ..none });
        check(false, false, Some(PatientState::Revoked), false, none);
    }
}
