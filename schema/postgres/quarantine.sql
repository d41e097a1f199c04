-- quarantine.sql: keeps an entry that cannot be stored as what it claims to be.

INSERT INTO quarantine AS q (person_id, key, reason, received_at, entry, identity)
VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (person_id, key) DO UPDATE
   SET reason      = excluded.reason,
       received_at = excluded.received_at,
       entry       = excluded.entry,
       identity    = excluded.identity
 WHERE q.reason <> excluded.reason
    OR q.entry  <> excluded.entry
    OR q.identity IS DISTINCT FROM excluded.identity;
