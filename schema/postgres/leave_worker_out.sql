-- leave_worker_out.sql: a worker that takes part in no cycle, and why. An earlier row of the same process goes.

WITH earlier AS (
    DELETE FROM worker WHERE host = $2 AND pid = $3 AND id <> $1 AND until < clock_timestamp()
)
INSERT INTO worker (id, host, pid, realm, version, started_at, seen_at, until, problem)
VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp(), '-infinity', $7)
    ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, problem = excluded.problem;
