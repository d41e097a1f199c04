-- demo.sql: the one query that `demo` shows: each patient's latest HbA1c (LOINC 4548-4).
--
-- SQLite gives the other columns of the row that max() found.

SELECT c.label                                               AS patient,
       count(*)                                              AS measured,
       substr(max(json_extract(o.resource, '$.effectiveDateTime')), 1, 10) AS latest,
       json_extract(o.resource, '$.valueQuantity.value')                AS hba1c,
       json_extract(o.resource, '$.valueQuantity.unit')                 AS unit
  FROM observation AS o
  JOIN checkpoint  AS c ON c.person_id = o.person_id
 WHERE o.deleted_at IS NULL
   AND json_extract(o.resource, '$.code.coding[0].code') = '4548-4'
   AND json_extract(o.resource, '$.valueQuantity.value') IS NOT NULL
 GROUP BY c.person_id
 ORDER BY c.label
 LIMIT 5;
