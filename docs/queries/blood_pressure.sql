-- blood_pressure.sql: systolic and diastolic side by side, in mmHg, one row a measurement.
--
-- A blood pressure is one Observation with two components, whatever its panel is called; `key` holds them together.
-- Some send two Observations of one moment instead. What is neither mmHg nor kPa stays as it was sent.

WITH parts AS (
    SELECT person_id, "key", component_index, loinc, effective, effective_at, effective_date, status,
           coalesce(ucum, unit) AS unit,
           CASE WHEN lower(coalesce(ucum, unit, 'mmhg')) IN ('mm[hg]', 'mmhg', 'mm hg') THEN value
                WHEN lower(coalesce(ucum, unit)) = 'kpa' THEN round(value * 7.50062, 1) END AS mmhg,
           value
      FROM observations
     WHERE loinc IN ('8480-6', '8462-4')
       AND value IS NOT NULL
       AND coalesce(status, '') NOT IN ('cancelled', 'registered')
), pairs AS (
    SELECT s.*, d.mmhg AS diastolic, d.value AS diastolic_value
      FROM parts AS s
      JOIN parts AS d ON d.person_id = s.person_id AND d."key" = s."key" AND d.loinc = '8462-4'
     WHERE s.loinc = '8480-6'
    UNION ALL
    SELECT s.*, d.mmhg, d.value
      FROM parts AS s
      JOIN parts AS d ON d.person_id = s.person_id AND d.effective_at = s.effective_at AND d.loinc = '8462-4'
     WHERE s.loinc = '8480-6' AND s.component_index IS NULL AND d.component_index IS NULL
)
SELECT coalesce(c.label, p.person_id) AS patient, p.effective_date AS day, p.effective,
       p.mmhg AS systolic, p.diastolic,
       CASE WHEN p.mmhg IS NULL THEN p.value END AS systolic_as_sent,
       CASE WHEN p.diastolic IS NULL THEN p.diastolic_value END AS diastolic_as_sent, p.unit AS unit_as_sent
  FROM pairs AS p
  LEFT JOIN freshness AS c ON c.person_id = p.person_id
 ORDER BY patient, p.effective, p."key";
