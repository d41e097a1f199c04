//! What `status` tells, read as of one moment and in the order that it is told. Only reads.

use std::collections::HashSet;

use crate::time::TimeDelta;
use serde::Serialize;

use super::ExitStatus;
use super::in_force::in_force_by;
use super::kept_records::kept_records;
use super::location;
use crate::cli::StatusArgs;
use crate::cycle::RosterFault;
use crate::plan::records::KeptStudy;
use crate::plan::stale::Freshness;
use crate::plan::state::PatientState;
use crate::plan::{PersonId, Timestamp, parse_stamp, stamp};
use crate::roster;
use crate::settings::{Complaints, Settings};
use crate::warehouse::Reader;
use crate::warehouse::purge::LedgerReport;
use crate::warehouse::report::{ExpiringConsents, PatientLine, StatusReport};
use crate::warehouse::service::ServiceView;

/// All that is told, read as of one moment.
pub(super) struct Found {
    pub(super) report: StatusReport,
    pub(super) service: ServiceView,
    pub(super) ledger: LedgerReport,
    pub(super) late_purges: u64,
    /// Those that the roster has with `enabled = false`.
    pub(super) disabled: HashSet<String>,
    pub(super) roster_refused: Option<String>,
    pub(super) roster_fault: Option<RosterFault>,
    pub(super) stale_since: Option<Timestamp>,
    pub(super) studies: Vec<StudyLine>,
    pub(super) expiring: ExpiringConsents,
    /// Whether patients were left out by a filter.
    is_filtered: bool,
}

impl Found {
    pub(super) fn read(settings: &Settings, args: &StatusArgs, now: Timestamp) -> anyhow::Result<Self> {
        let reader = Reader::open(&location(settings)?)?;
        let service = reader.service()?;
        let (disabled, roster_refused, roster_fault) = match roster::load(&settings.roster) {
            Ok(files) => {
                let (roster, fault) = in_force_by(&reader, &files, &settings.roster)?;
                let disabled = roster.patients.iter().filter(|patient| !patient.enabled);
                (disabled.map(|patient| patient.person.as_str().to_owned()).collect(), None, fault)
            }
            Err(complaints) => (HashSet::new(), Some(complaints.join("; ")), None),
        };
        let mut report = reader.status()?;
        let studies = note_consents(settings, &reader, &mut report)?;
        let until = now + TimeDelta::from_std(settings.roster.consent_warning).unwrap_or_default();
        let mut found = Self {
            report,
            studies,
            expiring: reader.expiring_consents(now, until, usize::MAX)?,
            ledger: reader.ledger(settings.consent.ledger.as_deref())?,
            late_purges: reader.late_purges(settings.consent.deadline, now)?,
            service,
            disabled,
            roster_refused,
            roster_fault,
            stale_since: None,
            is_filtered: false,
        };
        found.stale_since = found.freshness().stale_since(settings.alert.stale_after, now);
        found.filter(args)?;
        let mut patients = std::mem::take(&mut found.report.patients);
        patients.sort_by_cached_key(|patient| (found.need(patient), name(patient).to_owned()));
        found.report.patients = patients;
        Ok(found)
    }

    fn freshness(&self) -> Freshness {
        let mut freshness = Freshness { first_pull_at: self.service.first_pull_at, ..Freshness::default() };
        for patient in self.report.patients.iter().filter(|patient| patient.listed) {
            let state = PatientState::parse(&patient.state);
            let is_left_alone = matches!(state, Some(PatientState::Revoked | PatientState::Paused));
            if !is_left_alone && !self.is_disabled(patient) && patient.consent_ended_at.is_none() {
                freshness.expect(patient.last_success_at.as_deref().and_then(parse_stamp));
            }
        }
        freshness
    }

    pub(super) fn is_disabled(&self, patient: &PatientLine) -> bool {
        self.disabled.contains(&patient.id)
    }

    /// Leaves those out that nobody has asked for.
    fn filter(&mut self, args: &StatusArgs) -> Result<(), Complaints> {
        let patterns: Result<Vec<_>, _> = args.labels.iter().map(|text| glob::Pattern::new(text)).collect();
        let patterns = patterns.map_err(|error| Complaints::one(format!("--label: {error}")))?;
        self.is_filtered = !args.states.is_empty() || !patterns.is_empty();
        let disabled = &self.disabled;
        self.report.patients.retain(|patient| {
            let is_state = |state: &String| match state.as_str() {
                DISABLED => disabled.contains(&patient.id),
                state => patient.state == state,
            };
            let is_named = |pattern: &glob::Pattern| {
                pattern.matches(&patient.id)
                    || patient.label.as_ref().is_some_and(|label| pattern.matches(label))
            };
            (args.states.is_empty() || args.states.iter().any(is_state))
                && (patterns.is_empty() || patterns.iter().any(is_named))
        });
        Ok(())
    }

    /// Orders the patients: those that need a person first.
    fn need(&self, patient: &PatientLine) -> u8 {
        match PatientState::parse(&patient.state) {
            Some(PatientState::Held) => 0,
            Some(PatientState::Refused) => 1,
            Some(PatientState::NotFound) => 2,
            Some(PatientState::Failing) => 3,
            _ if !patient.listed && patient.holds_rows => 4,
            None | Some(PatientState::New) => 5,
            Some(PatientState::Active) if self.is_disabled(patient) => 7,
            Some(PatientState::Active) => 6,
            Some(PatientState::Paused) => 8,
            Some(PatientState::Revoked) => 9,
        }
    }

    pub(super) fn exit_status(&self) -> ExitStatus {
        let needs_a_person = [PatientState::Held.as_str(), PatientState::Failing.as_str()];
        let any = self.report.patients.iter().any(|one| needs_a_person.contains(&one.state.as_str()));
        // Who asks for some patients is told of these.
        let is_unread = self.studies.iter().any(|study| study.problem.is_some());
        let service =
            !self.is_filtered && (self.ledger.fault.is_some() || self.stale_since.is_some() || is_unread);
        if any || service { ExitStatus::SomePatientsFailed } else { ExitStatus::Done }
    }
}

/// A study, as its consent records were last read.
#[derive(Serialize)]
pub(super) struct StudyLine {
    study: String,
    pub(super) read_at: Option<String>,
    pub(super) failing_since: Option<String>,
    pub(super) problem: Option<String>,
}

/// Reads where the consent records stand, and notes it with each patient.
fn note_consents(
    settings: &Settings,
    reader: &Reader,
    report: &mut StatusReport,
) -> anyhow::Result<Vec<StudyLine>> {
    let kept = reader.consents()?;
    let study = |study: &KeptStudy| StudyLine {
        study: study.study.to_string(),
        read_at: study.read_at.map(stamp),
        failing_since: study.failing_since.map(stamp),
        problem: study.problem.clone(),
    };
    let studies = kept.studies.iter().map(study).collect();
    let records = kept_records(settings, kept);
    for patient in &mut report.patients {
        let record = PersonId::parse(&patient.id).ok().and_then(|person| records.of(&person));
        let Some(record) = record else { continue };
        patient.study = Some(record.study.to_string());
        patient.consent = Some(record.standing.as_str());
        patient.consent_expires_at = record.expires_at.map(stamp);
    }
    Ok(studies)
}

/// The word of `--state` for those that the roster has with `enabled = false`.
const DISABLED: &str = "disabled";

/// Returns the name a patient goes by.
pub(super) fn name(patient: &PatientLine) -> &str {
    patient.label.as_deref().unwrap_or(&patient.id)
}
