-- put_consent_record.sql: keeps what the records say of one patient in one study.
--
-- What another record lets through is looked at soon.

INSERT INTO consent_record AS r (person_id, study, record_id, consented, expires_at, seen_at)
VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (person_id, study) DO UPDATE
   SET scopes_seen_at = CASE WHEN r.record_id IS NOT DISTINCT FROM excluded.record_id THEN r.scopes_seen_at END,
       record_id      = excluded.record_id,
       consented      = excluded.consented,
       expires_at     = excluded.expires_at,
       seen_at        = excluded.seen_at;
