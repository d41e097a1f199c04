-- set_back.sql: moves a patient by what came of it in a cycle, short of a finished pull or a purge.
--
-- `refused_at` is of the first in an unbroken row of refusals: no answer leaves it, another answer
-- begins the row anew, a permission ends it. One that lies ahead was noted by a wrong clock.

UPDATE checkpoint
   SET state           = :state,
       last_error      = :last_error,
       next_attempt_at = :next_attempt_at,
       failures        = CASE WHEN :failed THEN failures + 1 ELSE 0 END,
       last_asked_at   = CASE WHEN :answered THEN :now ELSE last_asked_at END,
       refused_at      = CASE WHEN :refused THEN min(coalesce(refused_at, :now), :now)
                              WHEN :permitted THEN NULL
                              WHEN :breaks_row AND refused_at IS NOT NULL THEN :now
                              ELSE refused_at END,
       held_why        = CASE WHEN :held_why IS NOT NULL THEN :held_why
                              WHEN :permitted THEN NULL
                              ELSE held_why END
 WHERE person_id = :person_id;
