-- set_back.sql: moves a patient by what came of it in a cycle, short of a finished pull or a purge.
--
-- The patient's turn is over with it. `refused_at` is of the first in an unbroken row of refusals: no answer leaves it, another answer
-- begins the row anew, a permission ends it. One that lies ahead was noted by a wrong clock.

UPDATE checkpoint
   SET state           = $2,
       last_error      = $3,
       next_attempt_at = $4,
       failures        = CASE WHEN $5 THEN failures + 1 ELSE 0 END,
       last_asked_at   = CASE WHEN $6 THEN $7 ELSE last_asked_at END,
       refused_at      = CASE WHEN $8 THEN least(coalesce(refused_at, $7), $7)
                              WHEN $9 THEN NULL
                              WHEN $10 AND refused_at IS NOT NULL THEN $7
                              ELSE refused_at END,
       held_why        = CASE WHEN $11 IS NOT NULL THEN $11
                              WHEN $9 THEN NULL
                              ELSE held_why END,
       owner           = NULL
 WHERE person_id = $1;
