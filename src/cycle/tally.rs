//! What the patients of a cycle have come to together.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::patient::{PatientOutcome, PatientReport, Refusal};
use super::{ActivePatients, EndedEarly, FailedWhy, PurgeNote, Summary, Traffic};
use crate::clock::Instant;
use crate::healthex::client::Api;
use crate::plan::PersonId;
use crate::plan::breaker::Contact;
use crate::plan::consent::ROUND_DELAY;
use crate::plan::state::HeldWhy;
use crate::warehouse::page::Tally;
use crate::warehouse::turn::CyclePart;
use crate::wording::counted;

/// Reasons beyond these are not told apart.
const REASONS_MAX: usize = 32;

/// What the patients of a cycle have come to.
#[derive(Default)]
pub(super) struct CycleTally {
    /// What was asked for before.
    pub(super) before: Traffic,
    pub(super) ok: u64,
    pub(super) revoked: u64,
    pub(super) held: u64,
    pub(super) not_found: u64,
    pub(super) failed: u64,
    pub(super) skipped: u64,
    pub(super) not_reached: u64,
    pub(super) resources: Tally,
    pub(super) pages: u64,
    /// To be asked again before anyone believes it.
    refused: Vec<Refusal>,
    /// When the first of them was refused.
    refused_since: Option<Instant>,
    /// A patient that was permitted in this cycle, the last one.
    pub(super) permitted: Option<PersonId>,
    held_why: BTreeMap<&'static str, u64>,
    /// Why patients failed, and how many.
    failed_why: BTreeMap<String, u64>,
    last_failure: String,
    pub(super) purged: Vec<PurgeNote>,
    pub(super) ended: Option<EndedEarly>,
    /// Refused patients of a shared cycle that have been in a round, or will be.
    pub(super) known_refused: HashSet<PersonId>,
}

impl CycleTally {
    /// Returns one of a cycle that begins when so much was asked for.
    pub(super) fn since(before: Traffic) -> Self {
        Self { before, ..Self::default() }
    }

    /// Adds a refusal that a round is to judge.
    pub(super) fn refuse(&mut self, refusal: Refusal) {
        self.refused_since.get_or_insert_with(Instant::now);
        self.refused.push(refusal);
    }

    pub(super) fn take_refused(&mut self) -> Vec<Refusal> {
        self.refused_since = None;
        std::mem::take(&mut self.refused)
    }

    pub(super) fn refused_persons(&self) -> impl Iterator<Item = PersonId> {
        self.refused.iter().map(|refusal| refusal.task.person().clone())
    }

    /// Returns by which fences they were refused.
    pub(super) fn refused_fences(&self) -> Vec<(PersonId, i64)> {
        let refused = self.refused.iter().map(|refusal| &refusal.task.lease);
        refused.map(|lease| (lease.person().clone(), lease.fence)).collect()
    }

    /// Takes the fences by which the refused are held now, and leaves those out that are not as they were.
    pub(super) fn take_fences(&mut self, held: &HashMap<PersonId, i64>) {
        let before = self.refused.len();
        self.refused.retain_mut(|refusal| {
            let fence = held.get(refusal.task.person()).copied();
            refusal.task.lease.fence = fence.unwrap_or_default();
            fence.is_some()
        });
        self.skipped += (before - self.refused.len()) as u64;
    }

    /// Leaves those out that an operator has ordered to be purged since they were refused.
    pub(super) fn forget_ordered(&mut self, active: &ActivePatients) {
        let before = self.refused.len();
        self.refused.retain(|refusal| !active.is_ordered(refusal.task.person()));
        self.skipped += (before - self.refused.len()) as u64;
    }

    /// Returns when the refused have waited for long enough.
    pub(super) fn round_at(&self) -> Option<Instant> {
        self.refused_since.map(|since| since + ROUND_DELAY)
    }

    /// Returns whether a round can still be held: whatever else went wrong, but for these.
    pub(super) fn may_hold_round(&self) -> bool {
        !matches!(
            self.ended,
            Some(EndedEarly::Warehouse(_) | EndedEarly::CredentialsRefused(_) | EndedEarly::Stopped)
        )
    }

    pub(super) fn hold(&mut self, why: HeldWhy) {
        self.held += 1;
        *self.held_why.entry(why.as_str()).or_default() += 1;
    }

    /// Says in one line who is held, or would be, and why.
    pub(super) fn say_held(&self, is_rehearsal: bool) {
        if self.held > 0 {
            let why: Vec<String> =
                self.held_why.iter().map(|(why, count)| format!("{count} {why}")).collect();
            let (held, why) = (self.held, why.join(", "));
            if is_rehearsal {
                tracing::warn!(held, "{} would be held ({why})", counted(held, "patient", "patients"));
                return;
            }
            tracing::error!(
                held,
                "held, and their data kept: {} ({why}); `healthex-sync status` says what to do",
                counted(held, "patient", "patients")
            );
        }
    }

    /// Counts one patient, and returns what it has shown of the server.
    pub(super) fn count(&mut self, report: PatientReport) -> Option<Contact> {
        self.resources += report.tally;
        self.pages += report.pages;
        let was_permitted = match report.outcome {
            PatientOutcome::Ok | PatientOutcome::Permitted => true,
            PatientOutcome::Refused(_) => false,
            // It failed later.
            _ => report.pages > 0,
        };
        if was_permitted {
            self.permitted = Some(report.person);
        }
        match report.outcome {
            PatientOutcome::Ok => self.ok += 1,
            PatientOutcome::Permitted | PatientOutcome::StillRevoked | PatientOutcome::LeftToOthers => {
                self.skipped += 1;
            }
            PatientOutcome::NotFound => self.not_found += 1,
            PatientOutcome::Refused(refusal) => self.refuse(*refusal),
            PatientOutcome::Failed { contact, why } => {
                self.fail(why);
                return Some(contact);
            }
            PatientOutcome::Ends(ended) => {
                // Told to wait, this patient has had an answer; otherwise nobody was to blame.
                if matches!(ended, EndedEarly::ToldToWait(_)) {
                    self.failed += 1;
                } else {
                    self.not_reached += 1;
                }
                self.end(ended);
                return None;
            }
            PatientOutcome::Interrupted => {
                self.not_reached += 1;
                return None;
            }
        }
        Some(Contact::GotThrough)
    }

    pub(super) fn fail(&mut self, why: String) {
        self.failed += 1;
        self.last_failure.clone_from(&why);
        if self.failed_why.len() < REASONS_MAX || self.failed_why.contains_key(&why) {
            *self.failed_why.entry(why).or_default() += 1;
        }
    }

    /// Returns why the last patient failed that did.
    pub(super) fn last_failure(&self) -> &str {
        &self.last_failure
    }

    pub(super) fn end(&mut self, ended: EndedEarly) {
        self.ended.get_or_insert(ended);
    }

    /// Returns what others are to know of it.
    pub(super) fn part(&self, api: &Api) -> CyclePart {
        let now = Traffic::of(api);
        let most = self.failed_why.iter().max_by_key(|(_, patients)| **patients);
        CyclePart {
            ok: self.ok,
            not_found: self.not_found,
            failed: self.failed,
            skipped: self.skipped,
            resources: self.resources,
            pages: self.pages,
            requests: now.requests - self.before.requests,
            bytes: now.bytes - self.before.bytes,
            failed_why: most.map(|(why, patients)| (why.clone(), *patients)),
        }
    }

    /// Returns how many patients it tells of, those included that a round is to judge.
    pub(super) fn counted(&self) -> u64 {
        let Self { ok, revoked, held, not_found, failed, skipped, not_reached, .. } = self;
        ok + revoked + held + not_found + failed + skipped + not_reached + self.refused.len() as u64
    }

    /// Adds what another worker did.
    pub(super) fn add(&mut self, part: CyclePart) {
        self.ok += part.ok;
        self.not_found += part.not_found;
        self.failed += part.failed;
        self.skipped += part.skipped;
        self.resources += part.resources;
        self.pages += part.pages;
        if let Some((why, patients)) = part.failed_why {
            *self.failed_why.entry(why).or_default() += patients;
        }
    }

    pub(super) fn settle(self, summary: &mut Summary) {
        let patients = &mut summary.patients;
        patients.ok += self.ok;
        patients.revoked += self.revoked;
        patients.held += self.held;
        patients.not_found += self.not_found;
        patients.failed += self.failed;
        patients.skipped += self.skipped + self.not_reached;
        summary.not_reached = self.not_reached;
        summary.resources += self.resources;
        summary.pages += self.pages;
        let most = self.failed_why.into_iter().max_by_key(|(_, patients)| *patients);
        summary.failed_why = most.map(|(why, patients)| FailedWhy { why, patients });
        summary.held_why = self.held_why;
        summary.purged.extend(self.purged);
        summary.ended_early = self.ended;
    }
}
