-- consents_to_look_at.sql: the consents whose scopes were looked at longest ago, or never.

SELECT person_id, study, record_id
  FROM consent_record
 WHERE consented = 1 AND record_id IS NOT NULL
 ORDER BY coalesce(scopes_seen_at, ''), person_id
 LIMIT ?1;
