-- without_a_code.sql: statements that no code says what they are, one row a statement: an analysis by code misses them.

WITH uncoded AS (
    SELECT person_id, "key", 'allergies' AS from_table, text FROM allergies WHERE code IS NULL
    UNION ALL
    SELECT person_id, "key", 'conditions', text FROM conditions WHERE code IS NULL
    UNION ALL
    SELECT person_id, "key", 'immunizations', text FROM immunizations WHERE code IS NULL
    UNION ALL
    SELECT person_id, "key", 'medication_requests', coalesce(text, medication_display) FROM medication_requests
     WHERE code IS NULL AND medication_id IS NULL
    UNION ALL
    SELECT person_id, "key", 'medications', text FROM medications WHERE code IS NULL
    UNION ALL
    SELECT person_id, "key", 'observations', text FROM observations WHERE code IS NULL
    UNION ALL
    SELECT person_id, "key", 'procedures', text FROM procedures WHERE code IS NULL
)
SELECT coalesce(c.label, u.person_id) AS patient, u.from_table, u.text, u."key"
  FROM uncoded AS u
  LEFT JOIN freshness AS c ON c.person_id = u.person_id
 ORDER BY patient, u.from_table, u."key", u.text;
