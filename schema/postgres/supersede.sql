-- supersede.sql: marks the row whose new version cannot be stored, under either of its keys.
--
-- An entry that does not say which id it has may be any of its name. Returns the keys that were
-- not marked before.

UPDATE "{table}"
   SET superseded_at = $5
 WHERE person_id = $1
   AND key IN ($2, $3)
   AND ($4::text IS NULL OR id = $4)
   AND deleted_at IS NULL
   AND superseded_at IS NULL
RETURNING key;
