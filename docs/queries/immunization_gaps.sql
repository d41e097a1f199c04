-- immunization_gaps.sql: which vaccines of a list a person has had no dose of, one row a person and vaccine.
--
-- A vaccine is given by itself or in a combination: each is several CVX codes. The list is yours to change. `missing`
-- is told only of a person whose record is complete and pulled with its immunizations; of others it is `unknown`.

WITH wanted (vaccine, cvx) AS (
    SELECT 'MMR', '03'         UNION ALL SELECT 'MMR', '94'         UNION ALL
    SELECT 'Varicella', '21'   UNION ALL SELECT 'Varicella', '94'   UNION ALL
    SELECT 'Tdap', '115'       UNION ALL
    SELECT 'Zoster', '121'     UNION ALL SELECT 'Zoster', '187'     UNION ALL
    SELECT 'Polio', '10'       UNION ALL SELECT 'Polio', '89'       UNION ALL SELECT 'Polio', '110' UNION ALL
    SELECT 'Polio', '120'      UNION ALL SELECT 'Polio', '130'      UNION ALL SELECT 'Polio', '146' UNION ALL
    SELECT 'Hepatitis B', '08' UNION ALL SELECT 'Hepatitis B', '42' UNION ALL SELECT 'Hepatitis B', '43' UNION ALL
    SELECT 'Hepatitis B', '44' UNION ALL SELECT 'Hepatitis B', '45' UNION ALL SELECT 'Hepatitis B', '51' UNION ALL
    SELECT 'Hepatitis B', '104' UNION ALL SELECT 'Hepatitis B', '110' UNION ALL SELECT 'Hepatitis B', '146' UNION ALL
    SELECT 'Hepatitis B', '189' UNION ALL SELECT 'Hepatitis B', '220'
), had AS (
    SELECT DISTINCT i.person_id, w.vaccine
      FROM immunizations AS i
      JOIN wanted AS w ON w.cvx = i.cvx
     WHERE i.status = 'completed'
)
SELECT coalesce(f.label, f.person_id) AS patient, v.vaccine,
       CASE WHEN f.is_complete AND (f.types IS NULL OR ',' || f.types || ',' LIKE '%,Immunization,%')
            THEN 'missing' ELSE 'unknown' END AS verdict
  FROM freshness AS f
 CROSS JOIN (SELECT DISTINCT vaccine FROM wanted) AS v
  LEFT JOIN had AS h ON h.person_id = f.person_id AND h.vaccine = v.vaccine
 WHERE h.vaccine IS NULL
   AND f.live_resources > 0
 ORDER BY patient, v.vaccine;
