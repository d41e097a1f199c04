-- gone.sql: what vanished of one type since a time, with whether another row of that person has its id.
--
-- {table} is filled in from the R4 type list in the code, and what narrows it to a person, which is the second
-- parameter.

WITH gone AS (
    SELECT t.person_id, t.key, t.id
      FROM "{table}" AS t
     WHERE (t.deleted_at >= $1 OR t.superseded_at >= $1){person}
     UNION ALL
    SELECT t.person_id, t.key, t.id
      FROM removed AS t
     WHERE t.type = '{table}' AND t.removed_at >= $1{person}
       AND NOT EXISTS (SELECT 1 FROM "{table}" AS o WHERE o.person_id = t.person_id AND o.key = t.key)
), live AS (
    SELECT DISTINCT l.person_id, l.id
      FROM "{table}" AS l
     WHERE l.person_id IN (SELECT person_id FROM gone)
       AND l.id IS NOT NULL AND l.deleted_at IS NULL AND l.superseded_at IS NULL
)
SELECT gone.person_id, gone.key, gone.id, live.id IS NOT NULL
  FROM gone
  LEFT JOIN live ON live.person_id = gone.person_id AND live.id = gone.id
 ORDER BY 1, 2
