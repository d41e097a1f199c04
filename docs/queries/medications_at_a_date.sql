-- medications_at_a_date.sql: what was prescribed by a day and has not been stopped or finished.
--
-- Change the day below. FHIR does not say when a request ended, so one with another status
-- today is left out whatever the day; dates as received sort as text, also partial ones.

SELECT c.label, substr(m.authored, 1, 10) AS prescribed,
       coalesce(m.text, m.display) AS medication, m.rxnorm,
       m.medication_id, m.dosage_text
  FROM medication_requests AS m
  JOIN checkpoint          AS c ON c.person_id = m.person_id
 WHERE m.status IN ('active', 'on-hold')
   AND coalesce(m.intent, 'order') <> 'proposal'
   AND substr(m.authored, 1, 10) <= '2024-06-30'
 ORDER BY c.label, prescribed, m."key";
