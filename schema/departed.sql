-- departed.sql: how many were purged for leaving the roster since ?1, or for whatever else since ?2, when the roster lost
-- others, and are not on it: a roster that has lost many has not lost fewer because one of them was purged.

SELECT count(DISTINCT person_id)
  FROM purge_log AS p
 WHERE (reason = 'roster' AND purged_at > ?1)
    OR (purged_at >= ?2 AND NOT EXISTS (SELECT 1 FROM checkpoint AS c WHERE c.person_id = p.person_id AND listed));
