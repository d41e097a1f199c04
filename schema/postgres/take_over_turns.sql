-- take_over_turns.sql: takes the patients of a ticket that its former worker has not come to an end with.

UPDATE checkpoint AS c
   SET owner = $4, fence = c.fence + 1
  FROM turn AS t
 WHERE t.cycle = $1 AND t.ordinal > $2 AND t.ordinal <= $3 AND c.person_id = t.person_id AND c.owner = $5
RETURNING t.ordinal;
