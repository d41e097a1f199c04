-- latest_hba1c.sql: each person's latest HbA1c, one row a person, each unit in a column of its own.
--
-- A bound (`<4`) is told by its comparator, a result in words by `said`. What was entered in error is in no
-- table; what was cancelled or is not there yet is left out here. `days` is on how many days there was one.

WITH results AS (
    SELECT person_id, "key", status, comparator, value, coalesce(ucum, unit) AS unit, value_text,
           coalesce(substr(effective, 1, 10), substr(issued, 1, 10)) AS day, effective_at
      FROM observations
     WHERE loinc IN ('4548-4', '4549-2', '17855-8', '17856-6', '41995-2', '59261-8')
       AND coalesce(status, '') NOT IN ('cancelled', 'registered')
       AND (value IS NOT NULL OR value_text IS NOT NULL)
), latest AS (
    SELECT results.*, row_number() OVER (PARTITION BY person_id
                          ORDER BY coalesce(day, '') DESC, effective_at IS NULL, effective_at DESC, value IS NULL, "key") AS place
      FROM results
), counted AS (
    SELECT person_id, count(DISTINCT day) AS days FROM results GROUP BY person_id
)
SELECT coalesce(c.label, l.person_id) AS patient, n.days, l.day, l.comparator,
       CASE WHEN l.unit IN ('%', '%{HbA1c}', '% HbA1c', '%{total}', '% of total Hgb', 'percent') THEN l.value END AS percent,
       CASE WHEN lower(l.unit) IN ('mmol/mol', 'mmol/mol{hb}', 'mmol/mol hb') THEN l.value END AS mmol_mol,
       l.value AS value_as_sent, l.unit AS unit_as_sent, l.value_text AS said, l.status
  FROM latest AS l
  JOIN counted AS n ON n.person_id = l.person_id
  LEFT JOIN freshness AS c ON c.person_id = l.person_id
 WHERE l.place = 1
 ORDER BY patient;
