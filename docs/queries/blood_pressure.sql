-- blood_pressure.sql: systolic and diastolic side by side, over time.
--
-- A blood pressure is two components, whatever panel they are under; `key` holds together what one
-- Observation said.

SELECT c.label, s.effective_date, s.value AS systolic, d.value AS diastolic, s.unit
  FROM vital_signs AS s
  JOIN vital_signs AS d ON d.person_id = s.person_id AND d."key" = s."key" AND d.loinc = '8462-4'
  JOIN checkpoint  AS c ON c.person_id = s.person_id
 WHERE s.loinc = '8480-6'
 ORDER BY c.label, s.effective_date, s."key";
