-- latest_hba1c.sql: each patient's latest HbA1c (LOINC 4548-4), with a number.
--
-- row_number() takes one result where two bear the same time, and runs in SQLite and DuckDB alike.

SELECT c.label, l.measured, l.latest, l.value, l.unit
  FROM (SELECT person_id, value, unit, effective_date AS latest,
               count(*)     OVER (PARTITION BY person_id)                                   AS measured,
               row_number() OVER (PARTITION BY person_id ORDER BY effective_date DESC, "key") AS place
          FROM lab_results
         WHERE loinc = '4548-4'
           AND value IS NOT NULL
           AND effective_date IS NOT NULL) AS l
  JOIN checkpoint AS c ON c.person_id = l.person_id
 WHERE l.place = 1
 ORDER BY c.label, c.person_id;
