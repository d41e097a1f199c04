-- hold_refused.sql: takes patients that were refused, to ask them again, as far as they are as they were then.

UPDATE checkpoint AS c
   SET owner = $1, fence = c.fence + 1
  FROM unnest($2, $3) AS u(person_id, fence)
 WHERE c.person_id = u.person_id AND c.fence = u.fence AND c.owner IS NULL
RETURNING c.person_id, c.fence;
