-- keep_former.sql: keeps versions of resources that are about to be replaced.

INSERT INTO history (person_id, type, key, id, version_id, last_updated, source, patient, first_seen_at, changed_at,
                     deleted_at, content_hash, resource, superseded_at, replaced_at)
SELECT person_id, $3, key, id, version_id, last_updated, source, patient, first_seen_at, changed_at,
       deleted_at, content_hash, resource, superseded_at, $4
  FROM "{table}"
 WHERE person_id = $1
   AND key = ANY($2);
