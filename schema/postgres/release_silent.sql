-- release_silent.sql: takes from workers that are silent or gone what they held.

UPDATE checkpoint AS c
   SET owner = NULL, fence = c.fence + 1
 WHERE c.owner IS NOT NULL
   AND NOT EXISTS (SELECT FROM worker AS w WHERE w.id = c.owner AND w.until > clock_timestamp());
