-- latest_bmi.sql: each person's latest body mass index, one row a person: as it was sent, or else from the latest
-- weight and the latest height.
--
-- Weights are turned into kg and heights into m; what has another unit, or none, is left out.

WITH measured AS (
    SELECT person_id, "key", loinc, value, lower(coalesce(ucum, unit)) AS unit, effective_at,
           coalesce(substr(effective, 1, 10), substr(issued, 1, 10)) AS day
      FROM observations
     WHERE loinc IN ('39156-5', '29463-7', '3141-9', '3142-7', '8302-2', '3137-7', '3138-5')
       AND value > 0
       AND comparator IS NULL
       AND coalesce(status, '') NOT IN ('cancelled', 'registered')
), turned AS (
    SELECT person_id, "key", day, effective_at,
           CASE WHEN loinc = '39156-5' THEN 'bmi'
                WHEN loinc IN ('8302-2', '3137-7', '3138-5') THEN 'height' ELSE 'weight' END AS kind,
           CASE WHEN loinc = '39156-5' THEN value
                WHEN loinc IN ('8302-2', '3137-7', '3138-5') THEN
                     CASE WHEN unit = 'cm' THEN value / 100
                          WHEN unit = 'm' THEN value
                          WHEN unit = 'mm' THEN value / 1000
                          WHEN unit IN ('[in_i]', 'in', 'in_i', 'inch', 'inches') THEN value * 0.0254 END
                ELSE CASE WHEN unit = 'kg' THEN value
                          WHEN unit = 'g' THEN value / 1000
                          WHEN unit IN ('[lb_av]', 'lb', 'lbs', 'lb_av', 'pound', 'pounds') THEN value * 0.45359237
                          WHEN unit IN ('[oz_av]', 'oz') THEN value * 0.028349523 END END AS amount
      FROM measured
), latest AS (
    SELECT turned.*, row_number() OVER (PARTITION BY person_id, kind
                         ORDER BY coalesce(day, '') DESC, effective_at IS NULL, effective_at DESC, "key") AS place
      FROM turned
     WHERE amount IS NOT NULL
), each AS (
    SELECT person_id,
           max(CASE WHEN kind = 'bmi' THEN amount END)    AS bmi,
           max(CASE WHEN kind = 'bmi' THEN day END)       AS bmi_day,
           max(CASE WHEN kind = 'weight' THEN amount END) AS weight_kg,
           max(CASE WHEN kind = 'weight' THEN day END)    AS weight_day,
           max(CASE WHEN kind = 'height' THEN amount END) AS height_m
      FROM latest
     WHERE place = 1
     GROUP BY person_id
)
SELECT coalesce(c.label, e.person_id) AS patient,
       CASE WHEN e.bmi_day >= coalesce(e.weight_day, '') OR e.height_m IS NULL THEN e.bmi_day ELSE e.weight_day END AS day,
       round(CASE WHEN e.bmi_day >= coalesce(e.weight_day, '') OR e.height_m IS NULL THEN e.bmi
                  ELSE e.weight_kg / (e.height_m * e.height_m) END, 1) AS bmi,
       CASE WHEN e.bmi_day >= coalesce(e.weight_day, '') OR e.height_m IS NULL THEN 'as sent' ELSE 'worked out' END AS how,
       round(e.weight_kg, 1) AS weight_kg, round(e.height_m, 2) AS height_m
  FROM each AS e
  LEFT JOIN freshness AS c ON c.person_id = e.person_id
 WHERE e.bmi IS NOT NULL OR (e.weight_kg IS NOT NULL AND e.height_m IS NOT NULL)
 ORDER BY patient;
