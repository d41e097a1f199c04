-- take_turns.sql: takes the patients of a new ticket. A turn is void once the fence it was planned on has grown.

UPDATE checkpoint AS c
   SET owner = $4, fence = c.fence + 1
  FROM turn AS t
 WHERE t.cycle = $1 AND t.ordinal > $2 AND t.ordinal <= $3
   AND c.person_id = t.person_id AND c.fence = t.fence AND c.owner IS NULL
RETURNING t.ordinal;
