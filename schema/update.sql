-- update.sql: stores what changed under a known key, or brings back what had vanished.

UPDATE "{table}"
   SET id           = :id,
       version_id   = :version_id,
       last_updated = :last_updated,
       source       = :source,
       patient      = :patient,
       changed_at   = :now,
       deleted_at   = NULL,
       content_hash = :content_hash,
       resource     = :resource
 WHERE person_id = :person_id
   AND key       = :key;
