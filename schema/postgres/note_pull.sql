-- note_pull.sql: writes what a pull has cost so far, adds what it has changed, and notes its end if it has come.

UPDATE pull
   SET finished_at = $3, outcome = $4, error = $5, pages = $6, requests = $7, bytes = $8, entries = $9,
       inserted = inserted + $10, updated = updated + $11, unchanged = unchanged + $12,
       deleted = deleted + $13, quarantined = quarantined + $14
 WHERE id = $1 AND person_id = $2
RETURNING id;
