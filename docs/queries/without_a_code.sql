-- without_a_code.sql: rows that no code says what they are: what an analysis by code would miss.

SELECT 'allergies' AS from_table, person_id, "key", text FROM allergies
 WHERE coalesce(rxnorm, snomed) IS NULL
UNION ALL
SELECT 'conditions', person_id, "key", text FROM conditions WHERE coalesce(snomed, icd10) IS NULL
UNION ALL
SELECT 'immunizations', person_id, "key", text FROM immunizations WHERE coalesce(cvx, ndc) IS NULL
UNION ALL
SELECT 'lab_results', person_id, "key", text FROM lab_results WHERE loinc IS NULL
UNION ALL
SELECT 'medication_requests', person_id, "key", text FROM medication_requests
 WHERE coalesce(rxnorm, ndc) IS NULL
UNION ALL
SELECT 'procedures', person_id, "key", text FROM procedures WHERE coalesce(cpt, snomed) IS NULL
UNION ALL
SELECT 'vital_signs', person_id, "key", text FROM vital_signs WHERE loinc IS NULL
 ORDER BY 1, 2, 3;
