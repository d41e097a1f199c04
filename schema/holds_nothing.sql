-- holds_nothing.sql: whether nothing that any server said of a patient is kept.

SELECT NOT EXISTS (SELECT 1 FROM checkpoint WHERE holds_rows OR purged_at IS NOT NULL)
   AND NOT EXISTS (SELECT 1 FROM purge_log)
   AND NOT EXISTS (SELECT 1 FROM consent_record) AS holds_nothing;
