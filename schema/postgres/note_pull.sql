-- note_pull.sql: writes what a pull has cost so far, adds what it has changed, and notes its end if it has come.

UPDATE pull
   SET finished_at = $2, outcome = $3, error = $4, pages = $5, requests = $6, bytes = $7, entries = $8,
       inserted = inserted + $9, updated = updated + $10, unchanged = unchanged + $11,
       deleted = deleted + $12, quarantined = quarantined + $13
 WHERE person_id = $1 AND id = $14
RETURNING id;
