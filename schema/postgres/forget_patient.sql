-- forget_patient.sql: what is left of a purged patient is its id, with times and the reason.

UPDATE checkpoint
   SET state = $2, label = NULL, watermark = NULL, types = '', last_success_at = NULL, last_full_at = NULL,
       last_error = NULL, failures = 0, next_attempt_at = NULL, sweep_guarded_at = NULL, renamed_full_at = NULL,
       last_asked_at = $3, holds_rows = false, refused_at = NULL, held_why = NULL, purged_at = $3, purge_reason = $4,
       shares_names = false, short_since = NULL, short_fingerprint = NULL, short_by = NULL, short_in_full = NULL,
       deletions_seen_at = NULL, full_entries = NULL, since_ignored = 0, fence = fence + 1, owner = NULL
 WHERE person_id = $1;
