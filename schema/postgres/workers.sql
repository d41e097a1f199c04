-- workers.sql: the workers that are known, the one that leads first, and whom each of them is dealing with.

SELECT w.host, w.pid, w.version, w.started_at, w.seen_at, w.problem, w.until > clock_timestamp() AS lives,
       EXISTS (SELECT FROM writer AS l WHERE l.owner = w.id AND l.until > clock_timestamp()) AS leads,
       coalesce(h.patients, 0) AS patients
  FROM worker AS w
  LEFT JOIN (SELECT owner, count(*) AS patients FROM checkpoint WHERE owner IS NOT NULL GROUP BY owner) AS h
    ON h.owner = w.id
 WHERE w.seen_at > clock_timestamp() - interval '1 day'
 ORDER BY leads DESC, lives DESC, w.host, w.pid;
