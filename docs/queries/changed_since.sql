-- changed_since.sql: what is new or different in the warehouse since a day, one row a statement, the newest first.
--
-- Change the day, which stands here once. What vanished is in the tables of resources (`deleted_at`), and
-- `healthex-sync export --since` writes all of it.

WITH all_of_them AS (
    SELECT person_id, "key", 'conditions' AS from_table, coalesce(text, display, code) AS what, changed_at FROM conditions
    UNION ALL
    SELECT person_id, "key", 'encounters', coalesce(text, display, class_display, class), changed_at FROM encounters
    UNION ALL
    SELECT person_id, "key", 'observations', coalesce(text, display, code), changed_at FROM observations
     WHERE component_index IS NULL
    UNION ALL
    SELECT person_id, "key", 'medication_requests', coalesce(text, display, medication_display, code), changed_at
      FROM medication_requests
    UNION ALL
    SELECT person_id, "key", 'procedures', coalesce(text, display, code), changed_at FROM procedures
    UNION ALL
    SELECT person_id, "key", 'immunizations', coalesce(text, display, code), changed_at FROM immunizations
    UNION ALL
    SELECT person_id, "key", 'allergies', coalesce(text, display, code), changed_at FROM allergies
    UNION ALL
    SELECT person_id, "key", 'diagnostic_reports', coalesce(text, display, code), changed_at FROM diagnostic_reports
    UNION ALL
    SELECT person_id, "key", 'documents', coalesce(text, display, code), changed_at FROM documents
)
SELECT coalesce(c.label, a.person_id) AS patient, a.changed_at, a.from_table, a.what, a."key"
  FROM all_of_them AS a
  LEFT JOIN freshness AS c ON c.person_id = a.person_id
 WHERE a.changed_at >= '2026-11-19 00:00:00'
 ORDER BY patient, a.changed_at DESC, a.from_table, a."key";
