-- deaths.sql: who has died, one row a person; the age where both days are known.
--
-- One Patient that says so is enough, whatever others of the person say. A year or a month alone is `died_as_told`.

WITH dead AS (
    SELECT person_id, max(gender) AS sex, min(birth_date) AS birth_date, min(deceased_date) AS died,
           min(deceased_text) AS died_as_told
      FROM patients
     GROUP BY person_id
    HAVING max(CASE WHEN deceased THEN 1 ELSE 0 END) = 1
)
SELECT coalesce(c.label, d.person_id) AS patient, d.died, d.died_as_told, d.sex, d.birth_date,
       CAST(substr(CAST(d.died AS VARCHAR), 1, 4) AS INTEGER) - CAST(substr(CAST(d.birth_date AS VARCHAR), 1, 4) AS INTEGER)
         - CASE WHEN substr(CAST(d.died AS VARCHAR), 6, 5) < substr(CAST(d.birth_date AS VARCHAR), 6, 5)
                THEN 1 ELSE 0 END AS age
  FROM dead AS d
  LEFT JOIN freshness AS c ON c.person_id = d.person_id
 ORDER BY patient;
