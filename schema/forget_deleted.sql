-- forget_deleted.sql: removes some of the rows that were marked as deleted before a time, and returns which.

DELETE FROM "{table}"
 WHERE rowid IN (SELECT rowid FROM "{table}" WHERE deleted_at IS NOT NULL AND deleted_at < ?1 LIMIT ?2)
RETURNING person_id, key;
