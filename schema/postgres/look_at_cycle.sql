-- look_at_cycle.sql: how far a cycle is, for who has locked its row before: a statement that waits for a lock would
-- count the tickets as they were when it began.

SELECT c.ended_at IS NOT NULL AS is_over, c.planned_at IS NOT NULL AS is_planned, c.next, c.total,
       extract(epoch FROM c.wait_until - clock_timestamp())::float8 AS waits,
       (SELECT count(*) FROM worker AS w WHERE w.cycle = c.id AND w.until > clock_timestamp()) AS workers,
       EXISTS (SELECT FROM writer AS w WHERE w.until > clock_timestamp()) AS has_lead,
       EXISTS (SELECT FROM ticket AS t WHERE t.cycle = c.id AND t.worker <> $2) AS others_at_work,
       (SELECT max(coalesce(needs_worker, version)) FROM migration) AS needs_worker
  FROM shared_cycle AS c
 WHERE c.id = $1;
