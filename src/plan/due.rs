//! Who is asked in this cycle, and how: pulled in full, incrementally, from where it was
//! interrupted, only asked whether the consent still stands, or left alone.

use std::time::Duration;

use super::checkpoint::Checkpoint;
use super::consent::is_healing;
use super::state::{PatientState, PurgeReason};
use super::sweep::GUARD_HOURS;
use super::{PullMode, Timestamp, TypeFilter};
use crate::time::TimeDelta;

/// How the roster and the command line ask for this patient.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is asked for by itself")]
pub(crate) struct PatientRequest {
    pub listed: bool,
    pub enabled: bool,
    pub types: TypeFilter,
    /// `--patient`
    pub named: bool,
    /// `--full`
    pub full: bool,
    /// `sync` asks now whatever the delay after a failure; the daemon waits.
    pub impatient: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct DueRules {
    pub full_every: Option<Duration>,
    pub recheck: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Pull(PullMode),
    /// One request with `_count=1`, so that a withdrawal does not go unseen.
    AskConsent,
    /// Refused or held: asked again in the round that begins the cycle, and pulled, where it is
    /// pulled at all, only if that permits it.
    AskAgain(Option<PullMode>),
    Nothing(NotDue),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotDue {
    Disabled,
    Unlisted,
    Paused,
    /// Revoked or not found, and asked recently enough.
    WithinRecheck,
    WaitsAfterFailure,
    /// Purged, and without a consent by the records, which will tell when there is one again.
    NoConsent,
}

/// Decides how a patient is dealt with in this cycle.
pub(crate) fn decide(
    checkpoint: &Checkpoint,
    request: &PatientRequest,
    rules: DueRules,
    now: Timestamp,
) -> Due {
    let explicit = request.named || request.full;
    let recheck_due = is_recheck_due(checkpoint, rules, now);
    let consent_only = |reason| {
        if checkpoint.holds_rows && recheck_due { Due::AskConsent } else { Due::Nothing(reason) }
    };
    if checkpoint.consent_ended_at.is_some() {
        return without_consent(checkpoint, request);
    }
    let is_pulled = request.listed && !is_switched_off(request);
    if matches!(checkpoint.state, PatientState::Refused | PatientState::Held)
        && (is_pulled || checkpoint.holds_rows)
    {
        return Due::AskAgain(is_pulled.then(|| mode(checkpoint, request, rules, now)));
    }
    if !request.listed {
        return consent_only(NotDue::Unlisted);
    }
    if is_switched_off(request) {
        return consent_only(NotDue::Disabled);
    }
    match checkpoint.state {
        PatientState::Paused if !request.named => return Due::Nothing(NotDue::Paused),
        PatientState::Revoked if !explicit && !recheck_due && !heals(checkpoint, now) => {
            return Due::Nothing(NotDue::WithinRecheck);
        }
        PatientState::NotFound if !explicit && !recheck_due => {
            return Due::Nothing(NotDue::WithinRecheck);
        }
        _ => {}
    }
    let waits = checkpoint.next_attempt_at.is_some_and(|next| now < next && next - now <= WAIT_MAX);
    if waits && !request.impatient && !explicit {
        return Due::Nothing(NotDue::WaitsAfterFailure);
    }
    Due::Pull(mode(checkpoint, request, rules, now))
}

/// Decides about a patient whose consent has ended by the records: it is asked until it is purged, and
/// never pulled.
fn without_consent(checkpoint: &Checkpoint, request: &PatientRequest) -> Due {
    match checkpoint.state {
        PatientState::Revoked | PatientState::Paused => Due::Nothing(NotDue::NoConsent),
        _ if request.listed || checkpoint.holds_rows => Due::AskAgain(None),
        _ => Due::Nothing(NotDue::Unlisted),
    }
}

fn is_switched_off(request: &PatientRequest) -> bool {
    !request.enabled && !request.named
}

/// Returns whether a purge on refusals is young enough to be doubted in each cycle.
fn heals(checkpoint: &Checkpoint, now: Timestamp) -> bool {
    checkpoint
        .purged
        .is_some_and(|purge| purge.reason == PurgeReason::ConsentRevoked && is_healing(purge.at, now))
}

fn is_recheck_due(checkpoint: &Checkpoint, rules: DueRules, now: Timestamp) -> bool {
    checkpoint.last_asked_at.is_none_or(|asked| elapsed(asked, now, rules.recheck))
}

/// A longer wait than this was written by a clock that was wrong.
const WAIT_MAX: TimeDelta = TimeDelta::days(1);

fn mode(checkpoint: &Checkpoint, request: &PatientRequest, rules: DueRules, now: Timestamp) -> PullMode {
    let Some(watermark) = checkpoint.watermark else {
        return PullMode::Full;
    };
    let overdue = rules
        .full_every
        .is_some_and(|every| checkpoint.last_full_at.is_none_or(|full| elapsed(full, now, every)));
    let guard_over = checkpoint.sweep_guarded_at.is_some_and(|since| guard_expired(since, now));
    let full = request.full
        || watermark > now
        || request.types.gains_over(&checkpoint.types)
        || overdue
        || guard_over;
    if full { PullMode::Full } else { PullMode::Incremental }
}

/// Has a sweep been held back long enough to be believed?
pub(crate) fn guard_expired(since: Timestamp, now: Timestamp) -> bool {
    now - since >= TimeDelta::hours(GUARD_HOURS)
}

/// A full pull for the sake of renamed entries is made at most this often.
const RENAMED_FULL_EVERY: TimeDelta = TimeDelta::hours(1);

/// Returns whether renamed entries may ask for a full pull, after one that they asked for before.
pub(crate) fn may_pull_renamed(last: Option<Timestamp>, now: Timestamp) -> bool {
    last.is_none_or(|last| last > now || now - last >= RENAMED_FULL_EVERY)
}

/// A time that lies ahead was written by a wrong clock: then it is due as well.
fn elapsed(since: Timestamp, now: Timestamp, span: Duration) -> bool {
    since > now || TimeDelta::from_std(span).is_ok_and(|span| now - since >= span)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::PersonId;
    use crate::plan::checkpoint::PastPurge;

    const HOUR: i64 = 3600;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn checkpoint(state: PatientState) -> Checkpoint {
        Checkpoint {
            state,
            watermark: Some(at(-2 * HOUR)),
            last_full_at: Some(at(-2 * HOUR)),
            last_success_at: Some(at(-2 * HOUR)),
            last_asked_at: Some(at(-2 * HOUR)),
            holds_rows: true,
            ..Checkpoint::unknown(PersonId::parse("p").unwrap(), None)
        }
    }

    fn request() -> PatientRequest {
        PatientRequest {
            listed: true,
            enabled: true,
            types: TypeFilter::default(),
            named: false,
            full: false,
            impatient: true,
        }
    }

    const RULES: DueRules =
        DueRules { full_every: Some(Duration::from_hours(168)), recheck: Duration::from_hours(24) };

    fn check(checkpoint: &Checkpoint, request: &PatientRequest, due: &Due) {
        assert_eq!(&decide(checkpoint, request, RULES, at(0)), due, "{checkpoint:?} {request:?}");
    }

    #[test]
    fn a_pull_is_full_when_an_incremental_one_could_miss_something() {
        let full = Due::Pull(PullMode::Full);
        let active = checkpoint(PatientState::Active);
        check(&active, &request(), &Due::Pull(PullMode::Incremental));
        check(&Checkpoint { watermark: None, ..active.clone() }, &request(), &full);
        check(&Checkpoint { watermark: Some(at(1)), ..active.clone() }, &request(), &full);
        let caught_up = Checkpoint { watermark: Some(at(0)), ..active.clone() };
        check(&caught_up, &request(), &Due::Pull(PullMode::Incremental));
        check(&Checkpoint { last_full_at: Some(at(-168 * HOUR)), ..active.clone() }, &request(), &full);
        check(&Checkpoint { types: TypeFilter::parse("Observation"), ..active.clone() }, &request(), &full);
        check(&Checkpoint { sweep_guarded_at: Some(at(-24 * HOUR)), ..active.clone() }, &request(), &full);
        check(
            &Checkpoint { sweep_guarded_at: Some(at(-23 * HOUR)), ..active.clone() },
            &request(),
            &Due::Pull(PullMode::Incremental),
        );
        check(&active, &PatientRequest { full: true, ..request() }, &full);
        check(
            &active,
            &PatientRequest { types: TypeFilter::parse("Observation"), ..request() },
            &Due::Pull(PullMode::Incremental),
        );
    }

    #[test]
    fn a_settled_patient_is_left_alone_until_it_is_asked_for() {
        for state in [PatientState::Revoked, PatientState::NotFound] {
            let settled = Checkpoint { watermark: None, holds_rows: false, ..checkpoint(state) };
            check(&settled, &request(), &Due::Nothing(NotDue::WithinRecheck));
            check(
                &Checkpoint { last_asked_at: Some(at(-24 * HOUR)), ..settled.clone() },
                &request(),
                &Due::Pull(PullMode::Full),
            );
            check(&settled, &PatientRequest { named: true, ..request() }, &Due::Pull(PullMode::Full));
            check(&settled, &PatientRequest { full: true, ..request() }, &Due::Pull(PullMode::Full));
        }
        let paused = checkpoint(PatientState::Paused);
        check(&paused, &PatientRequest { full: true, ..request() }, &Due::Nothing(NotDue::Paused));
        check(&paused, &PatientRequest { named: true, ..request() }, &Due::Pull(PullMode::Incremental));
        let now = Checkpoint {
            watermark: None,
            purged: Some(PastPurge { at: at(-23 * HOUR), reason: PurgeReason::ConsentRevoked }),
            ..checkpoint(PatientState::Revoked)
        };
        check(&now, &request(), &Due::Pull(PullMode::Full));
        for (hours, reason) in [(25, PurgeReason::ConsentRevoked), (23, PurgeReason::Roster)] {
            let purged = Some(PastPurge { at: at(-hours * HOUR), reason });
            check(&Checkpoint { purged, ..now.clone() }, &request(), &Due::Nothing(NotDue::WithinRecheck));
        }
        // Asked just now, and by a clock that was ahead.
        let gone =
            |asked| Checkpoint { last_asked_at: Some(at(asked)), ..checkpoint(PatientState::NotFound) };
        check(&gone(0), &request(), &Due::Nothing(NotDue::WithinRecheck));
        check(&gone(1), &request(), &Due::Pull(PullMode::Incremental));
    }

    #[test]
    fn whoever_is_refused_is_asked_again_and_pulled_only_if_it_is_to_be_pulled() {
        let again = |pulls: bool| Due::AskAgain(pulls.then_some(PullMode::Incremental));
        for state in [PatientState::Refused, PatientState::Held] {
            let with_rows = checkpoint(state);
            let empty = Checkpoint { holds_rows: false, ..with_rows.clone() };
            let disabled = PatientRequest { enabled: false, ..request() };
            let unlisted = PatientRequest { listed: false, ..request() };
            check(&with_rows, &request(), &again(true));
            check(&empty, &request(), &again(true));
            check(&with_rows, &disabled, &again(false));
            check(&with_rows, &unlisted, &again(false));
            check(&with_rows, &PatientRequest { named: true, ..disabled.clone() }, &again(true));
            check(&empty, &disabled, &Due::Nothing(NotDue::Disabled));
            check(&empty, &unlisted, &Due::Nothing(NotDue::Unlisted));
        }
    }

    #[test]
    fn whoever_holds_rows_is_asked_for_consent_even_when_it_is_not_pulled() {
        let stale = Checkpoint { last_asked_at: Some(at(-24 * HOUR)), ..checkpoint(PatientState::Active) };
        let disabled = PatientRequest { enabled: false, ..request() };
        let unlisted = PatientRequest { listed: false, ..request() };
        check(&stale, &disabled, &Due::AskConsent);
        check(&stale, &unlisted, &Due::AskConsent);
        check(&checkpoint(PatientState::Active), &disabled, &Due::Nothing(NotDue::Disabled));
        check(&Checkpoint { holds_rows: false, ..stale.clone() }, &unlisted, &Due::Nothing(NotDue::Unlisted));
        check(&stale, &PatientRequest { named: true, ..disabled }, &Due::Pull(PullMode::Incremental));
    }

    #[test]
    fn whoever_has_no_consent_by_the_records_is_asked_until_it_is_purged_and_never_pulled() {
        let ended = |state| Checkpoint { consent_ended_at: Some(at(-HOUR)), ..checkpoint(state) };
        let named = PatientRequest { named: true, full: true, ..request() };
        for state in PatientState::ALL {
            let due = match state {
                PatientState::Revoked | PatientState::Paused => Due::Nothing(NotDue::NoConsent),
                _ => Due::AskAgain(None),
            };
            for request in [request(), named.clone(), PatientRequest { enabled: false, ..request() }] {
                check(&ended(state), &request, &due);
            }
        }
        let unlisted = PatientRequest { listed: false, ..request() };
        check(&ended(PatientState::Active), &unlisted, &Due::AskAgain(None));
        let empty = Checkpoint { holds_rows: false, ..ended(PatientState::New) };
        check(&empty, &unlisted, &Due::Nothing(NotDue::Unlisted));
        check(&empty, &request(), &Due::AskAgain(None));
    }

    #[test]
    fn only_the_daemon_waits_after_a_failure() {
        let failing = Checkpoint { next_attempt_at: Some(at(60)), ..checkpoint(PatientState::Failing) };
        check(&failing, &request(), &Due::Pull(PullMode::Incremental));
        check(
            &failing,
            &PatientRequest { impatient: false, ..request() },
            &Due::Nothing(NotDue::WaitsAfterFailure),
        );
        let over = Checkpoint { next_attempt_at: Some(at(0)), ..failing };
        check(&over, &PatientRequest { impatient: false, ..request() }, &Due::Pull(PullMode::Incremental));
        let absurd =
            Checkpoint { next_attempt_at: Some(at(100 * 24 * HOUR)), ..checkpoint(PatientState::Failing) };
        check(&absurd, &PatientRequest { impatient: false, ..request() }, &Due::Pull(PullMode::Incremental));
    }

    #[test]
    fn without_delays_everyone_is_asked_who_is_not_left_alone_for_good() {
        let asked = |state| Checkpoint {
            last_asked_at: Some(at(0)),
            next_attempt_at: Some(at(60)),
            ..checkpoint(state)
        };
        let patient = PatientRequest { impatient: false, ..request() };
        for state in PatientState::ALL {
            let mut asked = asked(state);
            asked.forget_delays();
            let due = match state {
                PatientState::Paused => Due::Nothing(NotDue::Paused),
                PatientState::Refused | PatientState::Held => Due::AskAgain(Some(PullMode::Incremental)),
                _ => Due::Pull(PullMode::Incremental),
            };
            check(&asked, &patient, &due);
        }
        for state in [PatientState::Failing, PatientState::NotFound, PatientState::Revoked] {
            let due = decide(&asked(state), &patient, RULES, at(0));
            assert!(matches!(due, Due::Nothing(_)), "{state:?} {due:?}");
        }
        let mut unlisted = asked(PatientState::Active);
        unlisted.forget_delays();
        check(&unlisted, &PatientRequest { listed: false, ..patient }, &Due::AskConsent);
    }

    #[test]
    fn renamed_entries_ask_for_a_full_pull_once_an_hour() {
        assert!(may_pull_renamed(None, at(0)));
        assert!(!may_pull_renamed(Some(at(1 - HOUR)), at(0)));
        assert!(may_pull_renamed(Some(at(-HOUR)), at(0)));
        assert!(!may_pull_renamed(Some(at(0)), at(0)));
        assert!(may_pull_renamed(Some(at(1)), at(0)));
    }
}
