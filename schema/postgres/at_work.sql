-- at_work.sql: a worker of the cycle under way that lives, if one does.

SELECT w.host, w.pid
  FROM worker AS w
  JOIN shared_cycle AS c ON c.id = w.cycle
 WHERE c.ended_at IS NULL AND w.until > clock_timestamp()
 LIMIT 1;
