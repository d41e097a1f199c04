-- update.sql: stores what changed under a known key, or brings back what had vanished or been superseded.

UPDATE "{table}"
   SET id            = ?3,
       version_id    = ?4,
       last_updated  = ?5,
       source        = ?6,
       patient       = ?7,
       changed_at    = ?8,
       deleted_at    = NULL,
       superseded_at = NULL,
       content_hash  = ?9,
       resource      = ?10
 WHERE person_id = ?1
   AND key       = ?2;
