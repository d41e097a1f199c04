-- fill_in_medicine.sql: code and name of the Medication that rows refer to, where it is a resource of its own.
--
-- Filled in by the program: the table, the SELECT of medicine.sql, and what narrows the rows. Where
-- several Medications of that person have the id and differ, none of them is taken: a wrong medicine is worse than none.

UPDATE "{table}"
   SET (code, code_system, display, text, rxnorm, ndc, snomed) = ({medicine})
 WHERE person_id = :person_id
   AND medication_id IS NOT NULL{which};
