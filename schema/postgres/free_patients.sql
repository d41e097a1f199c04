-- free_patients.sql: everybody whom no worker is dealing with, those first who have waited longest. All of them are read,
-- in pieces, so that nothing is won by an index.

SET LOCAL enable_seqscan = on;
DECLARE free_patients NO SCROLL CURSOR FOR
SELECT {columns} FROM checkpoint AS c
 WHERE c.owner IS NULL
 ORDER BY c.last_success_at NULLS FIRST, c.person_id COLLATE "C";
