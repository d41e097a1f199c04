-- medications_at_a_date.sql: what a person took by prescription or by their own word on a day, one row a statement.
--
-- Change the day, which stands here twice. Where an end is told, it decides, whatever the status is today; where
-- none is, what has been stopped, finished or cancelled since is left out, because nobody knows when. A plan that the
-- person reports is a medicine taken; a proposal is none. Dates as received sort as text, partial ones too.

WITH taken AS (
    SELECT person_id, "key", 'request' AS source_table, status, coalesce(text, display, medication_display, code) AS medicine,
           rxnorm, dosage_text, substr(coalesce(start_text, authored), 1, 10) AS from_day, substr(end_text, 1, 10) AS to_day
      FROM medication_requests
     WHERE coalesce(intent, 'order') NOT IN ('proposal', 'option')
       AND (coalesce(intent, 'order') <> 'plan' OR reported)
       AND NOT coalesce(do_not_perform, false)
    UNION ALL
    SELECT person_id, "key", 'statement', status, coalesce(text, display, medication_display, code),
           rxnorm, dosage_text, substr(effective, 1, 10), CAST(effective_end_date AS VARCHAR)
      FROM medication_statements
     WHERE coalesce(status, '') <> 'not-taken'
)
SELECT coalesce(c.label, t.person_id) AS patient, t.medicine, t.rxnorm, t.dosage_text, t.from_day, t.to_day,
       t.status, t.source_table
  FROM taken AS t
  LEFT JOIN freshness AS c ON c.person_id = t.person_id
 WHERE coalesce(t.from_day, '') <= '2024-06-30'
   AND (t.to_day >= substr('2024-06-30', 1, length(t.to_day))
        OR (t.to_day IS NULL AND coalesce(t.status, 'active') IN ('active', 'on-hold', 'unknown', 'intended')))
   AND coalesce(t.status, '') NOT IN ('draft', 'cancelled')
 ORDER BY patient, 2, t.from_day, t."key";
