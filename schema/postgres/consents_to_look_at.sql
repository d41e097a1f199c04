-- consents_to_look_at.sql: the consents whose scopes were looked at longest ago, or never.

SELECT person_id, study, record_id
  FROM consent_record
 WHERE consented AND record_id IS NOT NULL
 ORDER BY scopes_seen_at NULLS FIRST, person_id COLLATE "C"
 LIMIT $1;
