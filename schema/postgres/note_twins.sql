-- note_twins.sql: the live rows of one patient that share their id with another of the type.

INSERT INTO twin (person_id, type, key)
SELECT $1, $2, key
  FROM "{table}"
 WHERE person_id = $1
   AND deleted_at IS NULL
   AND id IN (SELECT id FROM "{table}" WHERE person_id = $1 AND deleted_at IS NULL GROUP BY id HAVING count(*) > 1);
