-- duplicates_across_hospitals.sql: results that stand in the record more than once, one row a result.
--
-- The same code, day, value and unit under several keys: mostly one result that two hospitals passed on. Count
-- distinct days, not rows, where that matters.

SELECT coalesce(max(c.label), o.person_id) AS patient, o.loinc, max(coalesce(o.display, o.text)) AS what,
       o.effective_date AS day, o.value, max(coalesce(o.ucum, o.unit)) AS unit, count(DISTINCT o."key") AS times,
       count(DISTINCT o.source) AS sources
  FROM observations AS o
  LEFT JOIN freshness AS c ON c.person_id = o.person_id
 WHERE o.loinc IS NOT NULL
   AND o.value IS NOT NULL
   AND o.effective_date IS NOT NULL
 GROUP BY o.person_id, o.loinc, o.effective_date, o.value, lower(coalesce(o.ucum, o.unit))
HAVING count(DISTINCT o."key") > 1
 ORDER BY patient, day DESC, o.loinc, o.value;
