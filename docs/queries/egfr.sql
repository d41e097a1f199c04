-- egfr.sql: each person's estimated glomerular filtration rates, the newest first, with the stage they are in; one row a
-- result.
--
-- `>60` is a bound: it is in stage G1 or G2, and says no more. The formulas differ by code; compare rows of one code.

SELECT coalesce(c.label, o.person_id) AS patient, coalesce(substr(o.effective, 1, 10), substr(o.issued, 1, 10)) AS day,
       o.loinc, coalesce(o.display, o.text) AS formula, o.comparator, o.value AS egfr, coalesce(o.ucum, o.unit) AS unit,
       CASE WHEN o.comparator IN ('>', '>=') THEN CASE WHEN o.value >= 90 THEN 'G1' WHEN o.value >= 59 THEN 'G1 or G2' END
            WHEN o.comparator IN ('<', '<=') THEN CASE WHEN o.value <= 15 THEN 'G5' END
            WHEN o.value >= 90 THEN 'G1'
            WHEN o.value >= 60 THEN 'G2'
            WHEN o.value >= 45 THEN 'G3a'
            WHEN o.value >= 30 THEN 'G3b'
            WHEN o.value >= 15 THEN 'G4'
            ELSE 'G5' END AS stage
  FROM observations AS o
  LEFT JOIN freshness AS c ON c.person_id = o.person_id
 WHERE o.loinc IN ('33914-3', '48642-3', '48643-1', '50044-7', '50210-4', '50384-7', '62238-1', '69405-9',
                   '70969-1', '77147-7', '88293-6', '88294-4', '98979-8', '98980-6')
   AND o.value IS NOT NULL
   AND coalesce(o.status, '') NOT IN ('cancelled', 'registered')
   AND lower(coalesce(o.ucum, o.unit, 'ml/min')) LIKE 'ml/min%'
 ORDER BY patient, day DESC, o.effective_at DESC, o."key";
