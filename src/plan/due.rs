//! Who is asked in this cycle, and how: pulled in full, incrementally, from where it was
//! interrupted, only asked whether the consent still stands, or left alone.

use std::time::Duration;

use chrono::TimeDelta;

use super::sweep::GUARD_HOURS;
use super::{PatientState, PullMode, Timestamp, TypeFilter};

/// What the warehouse remembers of one patient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    pub state: PatientState,
    pub watermark: Option<Timestamp>,
    /// The filter under which the watermark holds.
    pub types: TypeFilter,
    pub last_full_at: Option<Timestamp>,
    pub last_success_at: Option<Timestamp>,
    /// When the server last said 200, 403 or 404 about this patient.
    pub last_asked_at: Option<Timestamp>,
    pub next_attempt_at: Option<Timestamp>,
    /// Since when a suspiciously large sweep is held back.
    pub sweep_guarded_at: Option<Timestamp>,
    pub has_rows: bool,
    pub under_way: Option<UnderWay>,
}

/// A pull that was interrupted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnderWay {
    pub mode: PullMode,
    pub types: TypeFilter,
    pub started_at: Timestamp,
    pub since: Option<Timestamp>,
    pub next_url: Option<String>,
    pub pages: u64,
    pub walk: u32,
    pub has_total: bool,
    /// A new key for a stored id was met.
    pub renamed: bool,
    /// Attempts that ended at `next_url` without a new page.
    pub link_failures: u32,
}

/// How the roster and the command line ask for this patient.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is asked for by itself")]
pub struct Wish {
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
pub struct DueRules {
    pub full_every: Option<Duration>,
    pub recheck: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    Pull(PullMode),
    /// One request with `_count=1`, so that a withdrawal does not go unseen.
    AskConsent,
    Nothing(NotDue),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotDue {
    Disabled,
    Unlisted,
    Paused,
    /// Revoked or not found, and asked recently enough.
    WithinRecheck,
    WaitsAfterFailure,
}

pub fn decide(standing: Option<&Standing>, wish: &Wish, rules: DueRules, now: Timestamp) -> Due {
    let Some(standing) = standing else {
        return if wish.enabled || wish.named {
            Due::Pull(PullMode::Full)
        } else {
            Due::Nothing(NotDue::Disabled)
        };
    };
    let explicit = wish.named || wish.full;
    let recheck_due = is_recheck_due(standing, rules, now);
    let consent_only = |reason| {
        if standing.has_rows && recheck_due { Due::AskConsent } else { Due::Nothing(reason) }
    };
    if !wish.listed {
        return consent_only(NotDue::Unlisted);
    }
    if is_switched_off(wish) {
        return consent_only(NotDue::Disabled);
    }
    match standing.state {
        PatientState::Paused if !wish.named => return Due::Nothing(NotDue::Paused),
        PatientState::Revoked | PatientState::NotFound if !explicit && !recheck_due => {
            return Due::Nothing(NotDue::WithinRecheck);
        }
        _ => {}
    }
    let waits = standing.next_attempt_at.is_some_and(|next| now < next && next - now <= WAIT_MAX);
    if waits && !wish.impatient && !explicit {
        return Due::Nothing(NotDue::WaitsAfterFailure);
    }
    Due::Pull(mode(standing, wish, rules, now))
}

/// Does it decide anything whether this patient has rows? To find out costs a query for each table.
pub fn rows_decide(standing: &Standing, wish: &Wish, rules: DueRules, now: Timestamp) -> bool {
    (!wish.listed || is_switched_off(wish)) && is_recheck_due(standing, rules, now)
}

fn is_switched_off(wish: &Wish) -> bool {
    !wish.enabled && !wish.named
}

fn is_recheck_due(standing: &Standing, rules: DueRules, now: Timestamp) -> bool {
    standing.last_asked_at.is_none_or(|asked| elapsed(asked, now, rules.recheck))
}

/// A longer wait than this was written by a clock that was wrong.
const WAIT_MAX: TimeDelta = TimeDelta::days(1);

fn mode(standing: &Standing, wish: &Wish, rules: DueRules, now: Timestamp) -> PullMode {
    let Some(watermark) = standing.watermark else {
        return PullMode::Full;
    };
    let overdue = rules
        .full_every
        .is_some_and(|every| standing.last_full_at.is_none_or(|full| elapsed(full, now, every)));
    let guard_over = standing.sweep_guarded_at.is_some_and(|since| guard_expired(since, now));
    let full =
        wish.full || watermark > now || wish.types.gains_over(&standing.types) || overdue || guard_over;
    if full { PullMode::Full } else { PullMode::Incremental }
}

/// Has a sweep been held back long enough to be believed?
pub fn guard_expired(since: Timestamp, now: Timestamp) -> bool {
    now - since >= TimeDelta::hours(GUARD_HOURS)
}

/// May the interrupted pull be gone on with?
///
/// A bundle without `total` cannot be proven whole across a restart, so it begins again.
pub fn may_resume(under_way: &UnderWay, mode: PullMode, types: &TypeFilter, now: Timestamp) -> bool {
    under_way.mode == mode && under_way.types == *types && under_way.has_total && under_way.started_at <= now
}

/// A time that lies ahead was written by a wrong clock: then it is due as well.
fn elapsed(since: Timestamp, now: Timestamp, span: Duration) -> bool {
    since > now || TimeDelta::from_std(span).is_ok_and(|span| now - since >= span)
}

/// The longest wait after failures.
pub const FAILURE_DELAY_MAX: Duration = Duration::from_hours(6);

/// How long a patient that has failed `failures` times in a row is left alone: from one
/// cycle's length, doubling, to six hours.
pub fn failure_delay(failures: u32, period: Duration) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    period.saturating_mul(1 << doublings).min(FAILURE_DELAY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    fn standing(state: PatientState) -> Standing {
        Standing {
            state,
            watermark: Some(at(-2 * HOUR)),
            types: TypeFilter::default(),
            last_full_at: Some(at(-2 * HOUR)),
            last_success_at: Some(at(-2 * HOUR)),
            last_asked_at: Some(at(-2 * HOUR)),
            next_attempt_at: None,
            sweep_guarded_at: None,
            has_rows: true,
            under_way: None,
        }
    }

    fn wish() -> Wish {
        Wish {
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

    fn check(standing: &Standing, wish: &Wish, due: &Due) {
        assert_eq!(&decide(Some(standing), wish, RULES, at(0)), due, "{standing:?} {wish:?}");
    }

    #[test]
    fn a_pull_is_full_when_an_incremental_one_could_miss_something() {
        let full = Due::Pull(PullMode::Full);
        let active = standing(PatientState::Active);
        assert_eq!(decide(None, &wish(), RULES, at(0)), full);
        check(&active, &wish(), &Due::Pull(PullMode::Incremental));
        check(&Standing { watermark: None, ..active.clone() }, &wish(), &full);
        check(&Standing { watermark: Some(at(1)), ..active.clone() }, &wish(), &full);
        check(&Standing { last_full_at: Some(at(-168 * HOUR)), ..active.clone() }, &wish(), &full);
        check(&Standing { types: TypeFilter::parse("Observation"), ..active.clone() }, &wish(), &full);
        check(&Standing { sweep_guarded_at: Some(at(-24 * HOUR)), ..active.clone() }, &wish(), &full);
        check(
            &Standing { sweep_guarded_at: Some(at(-23 * HOUR)), ..active.clone() },
            &wish(),
            &Due::Pull(PullMode::Incremental),
        );
        check(&active, &Wish { full: true, ..wish() }, &full);
        check(
            &active,
            &Wish { types: TypeFilter::parse("Observation"), ..wish() },
            &Due::Pull(PullMode::Incremental),
        );
    }

    #[test]
    fn a_settled_patient_is_left_alone_until_it_is_asked_for() {
        for state in [PatientState::Revoked, PatientState::NotFound] {
            let settled = Standing { watermark: None, has_rows: false, ..standing(state) };
            check(&settled, &wish(), &Due::Nothing(NotDue::WithinRecheck));
            check(
                &Standing { last_asked_at: Some(at(-24 * HOUR)), ..settled.clone() },
                &wish(),
                &Due::Pull(PullMode::Full),
            );
            check(&settled, &Wish { named: true, ..wish() }, &Due::Pull(PullMode::Full));
            check(&settled, &Wish { full: true, ..wish() }, &Due::Pull(PullMode::Full));
        }
        let paused = standing(PatientState::Paused);
        check(&paused, &Wish { full: true, ..wish() }, &Due::Nothing(NotDue::Paused));
        check(&paused, &Wish { named: true, ..wish() }, &Due::Pull(PullMode::Incremental));
        check(&standing(PatientState::Held), &wish(), &Due::Pull(PullMode::Incremental));
    }

    #[test]
    fn whoever_has_rows_is_asked_for_consent_even_when_it_is_not_pulled() {
        let stale = Standing { last_asked_at: Some(at(-24 * HOUR)), ..standing(PatientState::Active) };
        let disabled = Wish { enabled: false, ..wish() };
        let unlisted = Wish { listed: false, ..wish() };
        check(&stale, &disabled, &Due::AskConsent);
        check(&stale, &unlisted, &Due::AskConsent);
        check(&standing(PatientState::Active), &disabled, &Due::Nothing(NotDue::Disabled));
        check(&Standing { has_rows: false, ..stale.clone() }, &unlisted, &Due::Nothing(NotDue::Unlisted));
        check(&stale, &Wish { named: true, ..disabled }, &Due::Pull(PullMode::Incremental));
    }

    #[test]
    fn rows_are_asked_for_exactly_where_they_decide() {
        for (listed, enabled, named, asked) in [
            (true, true, false, -24 * HOUR),
            (true, false, false, -24 * HOUR),
            (true, false, false, -HOUR),
            (true, false, true, -24 * HOUR),
            (false, false, false, -24 * HOUR),
            (false, false, false, -HOUR),
        ] {
            let wish = Wish { listed, enabled, named, ..wish() };
            let with = Standing { last_asked_at: Some(at(asked)), ..standing(PatientState::Active) };
            let without = Standing { has_rows: false, ..with.clone() };
            let due = |standing| decide(Some(standing), &wish, RULES, at(0));
            let differs = due(&with) != due(&without);
            assert_eq!(rows_decide(&with, &wish, RULES, at(0)), differs, "{wish:?}");
        }
    }

    #[test]
    fn only_the_daemon_waits_after_a_failure() {
        let failing = Standing { next_attempt_at: Some(at(60)), ..standing(PatientState::Failing) };
        check(&failing, &wish(), &Due::Pull(PullMode::Incremental));
        check(&failing, &Wish { impatient: false, ..wish() }, &Due::Nothing(NotDue::WaitsAfterFailure));
        let absurd =
            Standing { next_attempt_at: Some(at(100 * 24 * HOUR)), ..standing(PatientState::Failing) };
        check(&absurd, &Wish { impatient: false, ..wish() }, &Due::Pull(PullMode::Incremental));
    }

    #[test]
    fn the_wait_grows_from_one_cycle_to_six_hours() {
        let period = Duration::from_mins(15);
        assert_eq!(failure_delay(1, period), period);
        assert_eq!(failure_delay(3, period), period * 4);
        assert_eq!(failure_delay(30, period), FAILURE_DELAY_MAX);
    }
}
