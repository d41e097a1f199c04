-- renew_worker.sql: says that a worker lives. No row: it was silent for too long, and what it held is others'.

UPDATE worker
   SET seen_at = clock_timestamp(), until = clock_timestamp() + make_interval(secs => $2)
 WHERE id = $1
RETURNING id;
