-- upsert.sql: stores resources of one person and type, new or in place of what is stored under their keys.

INSERT INTO "{table}" (person_id, key, id, version_id, last_updated, source, patient,
                       first_seen_at, changed_at, content_hash, resource)
SELECT $1, u.key, u.id, u.version_id, u.last_updated, u.source, u.patient, $2, $2, u.content_hash, u.resource::json
  FROM unnest($3, $4, $5, $6, $7, $8, $9, $10)
    AS u(key, id, version_id, last_updated, source, patient, content_hash, resource)
    ON CONFLICT (person_id, key) DO UPDATE
   SET id = excluded.id, version_id = excluded.version_id, last_updated = excluded.last_updated,
       source = excluded.source, patient = excluded.patient, changed_at = excluded.changed_at,
       deleted_at = NULL, superseded_at = NULL, content_hash = excluded.content_hash, resource = excluded.resource;
