-- join_cycle.sql: a worker joins a cycle. An earlier row of the same process goes.

WITH earlier AS (
    DELETE FROM worker WHERE host = $2 AND pid = $3 AND id <> $1 AND until < clock_timestamp()
)
INSERT INTO worker (id, host, pid, realm, version, started_at, seen_at, until, cycle)
VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp(), clock_timestamp() + make_interval(secs => $7), $8)
    ON CONFLICT (id) DO UPDATE
   SET seen_at = excluded.seen_at, until = excluded.until, cycle = excluded.cycle, problem = NULL;
