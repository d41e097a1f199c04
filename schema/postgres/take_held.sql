-- take_held.sql: takes held patients whom nobody is dealing with who lives, to ask them again on an operator's word.

UPDATE checkpoint AS c
   SET owner = $1, fence = c.fence + 1
 WHERE c.person_id = ANY($2) AND c.state = 'held'
   AND NOT EXISTS (SELECT FROM worker AS w WHERE w.id = c.owner AND w.until > clock_timestamp())
RETURNING c.person_id, c.fence;
