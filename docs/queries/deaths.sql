-- deaths.sql: who has died, one row a person; the age where both days are known.
--
-- One Patient that says so is enough, whatever others of the person say. Where no whole day is told, `died_as_told` is
-- what is: a year or a month.

SELECT coalesce(c.label, p.person_id) AS patient, p.deceased_date AS died,
       CASE WHEN p.deceased_date IS NULL THEN t.told END AS died_as_told, p.sex, p.birth_date,
       CAST(substr(CAST(p.deceased_date AS VARCHAR), 1, 4) AS INTEGER) - CAST(substr(CAST(p.birth_date AS VARCHAR), 1, 4) AS INTEGER)
         - CASE WHEN substr(CAST(p.deceased_date AS VARCHAR), 6, 5) < substr(CAST(p.birth_date AS VARCHAR), 6, 5)
                THEN 1 ELSE 0 END AS age
  FROM persons AS p
  LEFT JOIN (SELECT person_id, max(deceased_text) AS told FROM patients GROUP BY person_id) AS t
         ON t.person_id = p.person_id
  LEFT JOIN freshness AS c ON c.person_id = p.person_id
 WHERE p.deceased
 ORDER BY patient;
