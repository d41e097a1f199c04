-- insert.sql: stores a resource unless the warehouse has met its key.

INSERT INTO "{table}" (person_id, key, id, version_id, last_updated, source, patient,
                       first_seen_at, changed_at, deleted_at, content_hash, resource)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8, NULL, ?9, ?10)
    ON CONFLICT (person_id, key) DO NOTHING;
