-- demo.sql: the one query that `demo` shows: each patient's latest HbA1c (LOINC 4548-4).
--
-- SQLite gives the other columns of the row that max() found.

SELECT coalesce(c.label, c.person_id)     AS patient,
       count(*)                            AS measured,
       max(l.effective_date)               AS latest,
       l.value                             AS hba1c,
       l.unit
  FROM lab_results AS l
  JOIN checkpoint  AS c ON c.person_id = l.person_id
 WHERE l.loinc = '4548-4'
   AND l.value IS NOT NULL
 GROUP BY c.person_id
 ORDER BY patient
 LIMIT 5;
