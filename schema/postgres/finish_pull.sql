-- finish_pull.sql: moves the watermark, in the transaction of the pull's last rows. The patient's turn is over with it.

UPDATE checkpoint
   SET state = $3, watermark = $4, types = $5, last_success_at = $6, last_asked_at = $6,
       last_full_at = coalesce($7, last_full_at), failures = 0, next_attempt_at = NULL, last_error = NULL,
       refused_at = NULL, held_why = NULL, holds_rows = holds_rows OR $8,
       deletions_seen_at = CASE WHEN $9::timestamptz IS NOT NULL THEN $9
                                WHEN $7::timestamptz IS NULL OR types = $5 THEN deletions_seen_at END,
       purged_at = CASE WHEN $8 THEN NULL ELSE purged_at END,
       purge_reason = CASE WHEN $8 THEN NULL ELSE purge_reason END,
       owner = NULL,
       {no_pull}
 WHERE person_id = $1 AND ($2::timestamptz IS NULL OR pull_started_at = $2);
