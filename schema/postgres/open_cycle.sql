-- open_cycle.sql: the cycle under way, and how many workers but $1 live that share it.

SELECT c.id, c.planned_at IS NOT NULL AS is_planned, c.started_at, c.next, c.total,
       (SELECT count(*) FROM worker AS w
         WHERE w.cycle = c.id AND w.id <> $1 AND w.until > clock_timestamp()) AS others
  FROM shared_cycle AS c
 WHERE c.ended_at IS NULL;
