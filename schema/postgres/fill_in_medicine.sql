-- fill_in_medicine.sql: code and name of the Medication that rows of one person refer to, where it is a resource of
-- its own.
--
-- Filled in by the program: both tables, and what narrows the rows. Where several Medications of that person have
-- the id and differ, none of them is taken: a wrong medicine is worse than none.

UPDATE "{table}" AS r
   SET (code, code_system, display, text, rxnorm, ndc, snomed) =
       (SELECT m.code, m.code_system, m.display, coalesce(m.text, r.medication_display), m.rxnorm, m.ndc, m.snomed
          FROM (SELECT 1) AS always
          {medicine_of})
 WHERE r.person_id = $1
   AND r.medication_id IS NOT NULL{which};
