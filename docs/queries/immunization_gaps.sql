-- immunization_gaps.sql: who has no completed dose of what everyone should have.
--
-- A vaccine is one of several CVX codes; the list is yours to change. A patient whose first full
-- pull is not over is left out: there, a missing dose means nothing.

WITH wanted (vaccine, cvx) AS (
    SELECT 'MMR', '03'           UNION ALL SELECT 'MMR', '94' UNION ALL
    SELECT 'Tdap', '115'         UNION ALL
    SELECT 'Zoster', '187'       UNION ALL SELECT 'Zoster', '121' UNION ALL
    SELECT 'Hepatitis B', '43'   UNION ALL SELECT 'Hepatitis B', '08' UNION ALL SELECT 'Hepatitis B', '45'
)
SELECT f.label, w.vaccine
  FROM freshness AS f
 CROSS JOIN (SELECT DISTINCT vaccine FROM wanted) AS w
 WHERE f.first_full_pull_completed = 1
   AND f.live_resources > 0
   AND NOT EXISTS (SELECT 1
                     FROM immunizations AS i
                     JOIN wanted        AS x ON x.cvx = i.cvx
                    WHERE i.person_id = f.person_id AND i.status = 'completed' AND x.vaccine = w.vaccine)
 ORDER BY f.label, w.vaccine;
