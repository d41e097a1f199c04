-- insert.sql: stores a resource that the warehouse has not met under this key.

INSERT INTO "{table}" (person_id, key, id, version_id, last_updated, source, patient,
                       first_seen_at, changed_at, deleted_at, content_hash, resource)
VALUES (:person_id, :key, :id, :version_id, :last_updated, :source, :patient,
        :now, :now, NULL, :content_hash, :resource);
