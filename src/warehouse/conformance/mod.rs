//! Holds every engine to one meaning of the door: each claim is run over each engine.
//!
//! An engine takes part by a [`Candidate`] of its own and a module here. Absent on purpose: how an
//! engine keeps what it is given; what is looked at is what the door answers, and every row.

mod cycles;
mod equality;
mod kept;
mod pages;
mod purges;
mod records;
mod refusals;
mod rehearsals;
mod sweeps;
mod trial;

pub(super) use self::kept::{Kept, KeptRow};
pub(super) use self::trial::{Pull, Trial, at, batch, end, listed, observation, person};

use super::place::Place;

/// What the suite needs of an engine beside the door.
pub(super) trait Candidate: Sized {
    /// Returns a place where there is no warehouse yet. It is gone when the candidate is.
    fn new(base_url: &str) -> Self;

    /// Returns whether the engine can be tried on this machine. Says so where it cannot.
    fn is_here() -> bool {
        true
    }

    fn place(&self) -> &Place;

    /// Returns every row of every table, with its cells as text.
    fn kept(&self) -> Kept;
}

/// Runs these claims over the engine that `Engine` names. No two have one name.
macro_rules! run {
    ($($part:ident { $($claim:ident)* })*) => {
        $($(#[tokio::test]
        async fn $claim() {
            if <Engine as crate::warehouse::conformance::Candidate>::is_here() {
                crate::warehouse::conformance::$part::$claim::<Engine>().await;
            }
        })*)*
    };
}

/// Runs the claims that every engine is held to. One that is not in the list is told by the compiler as unused.
macro_rules! run_claims {
    () => {
        run! {
            cycles {
                a_cycle_begins_with_everybody_in_order_and_closes_what_a_kill_cut_off
                who_is_missing_from_the_roster_is_noted_until_it_is_listed_again
                what_has_long_been_marked_as_deleted_goes_with_the_end_of_a_cycle
                the_times_of_cycles_outlast_a_restart
                another_server_is_refused_or_adopted_with_its_rows
                no_time_is_stored_that_was_not_told
                what_the_service_remembers_outlasts_a_restart_and_goes_with_a_purge
            }
            pages {
                a_page_is_kept_with_the_place_where_the_pull_goes_on
                a_page_of_somebody_unknown_is_not_kept_in_any_part
                a_page_that_comes_again_changes_nothing
                of_two_versions_in_one_walk_the_later_stays
                what_cannot_be_a_row_is_quarantined_until_it_can
                the_last_page_moves_the_watermark_and_the_pull_together
                a_pull_of_one_batch_leaves_no_marks
                a_pull_that_another_has_taken_over_is_answered_and_not_kept
                a_walk_that_is_resumed_has_seen_what_it_saw
                a_pull_that_begins_again_forgets_its_walks
                a_renamed_entry_is_noticed_by_an_incremental_pull_alone
            }
            sweeps {
                what_no_walk_saw_is_marked_and_what_comes_back_is_restored
                what_came_in_its_place_hides_nothing_that_vanished
                a_walk_of_several_pages_is_repeated_before_anything_is_marked
                a_record_that_is_gone_at_once_is_guarded_for_a_day
                types_that_were_not_asked_for_are_not_swept
            }
            refusals {
                a_withdrawal_that_is_held_keeps_all_rows
                a_pull_that_fails_keeps_its_rows_its_watermark_and_its_place
                a_pull_that_is_interrupted_is_held_against_nobody
                a_link_that_fails_is_counted_and_a_new_page_clears_the_count
                a_refusal_is_noted_the_moment_it_arrives
                the_latest_that_were_pulled_can_bear_witness
                an_answer_for_somebody_unknown_is_answered
            }
            purges {
                a_purge_leaves_no_row_but_what_is_known_about_the_patient
                each_reason_leads_to_its_state
                without_rows_there_is_nothing_to_log_but_an_operators_word
                a_roster_that_lacks_a_patient_for_a_while_does_not_undo_an_operators_purge
                a_roster_that_cannot_be_read_does_not_undo_an_operators_purge
                records_that_lack_a_patient_never_undo_an_operators_purge
                who_is_pulled_again_after_an_operators_purge_does_not_wait_once_a_page_is_stored
                who_is_held_is_told_for_an_operator_to_purge
                a_purged_patient_that_is_no_longer_listed_is_forgotten
                withdrawals_of_a_day_are_counted_together
                who_was_purged_while_the_roster_lacked_it_is_counted_with_those_who_left
                a_scrub_settles_every_purge_at_once
                a_patient_that_was_purged_is_pulled_like_anyone_new
            }
            records {
                the_last_answer_is_kept_until_the_next_and_goes_with_a_purge
                of_who_withdraws_before_anything_is_stored_nothing_is_kept
                that_a_consent_has_ended_outlives_the_purge
                a_rehearsal_of_a_reading_says_the_same_and_keeps_nothing
                a_consent_that_lets_through_something_else_asks_for_a_full_pull
                a_consent_that_runs_out_is_told_once_a_day
            }
            rehearsals {
                a_rehearsed_page_is_answered_as_it_would_be_stored
                a_rehearsal_answers_as_the_warehouse_would_and_changes_nothing
                a_rehearsal_of_what_is_not_there_makes_nothing
            }
        }
    };
}

mod sqlite {
    use crate::warehouse::sqlite::SqliteCandidate as Engine;

    run_claims!();
}

mod postgres {
    use crate::warehouse::postgres::PostgresCandidate as Engine;

    run_claims!();
}
