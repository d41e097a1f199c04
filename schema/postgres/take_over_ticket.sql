-- take_over_ticket.sql: takes a ticket of a worker that is silent or gone.

WITH dropped AS (
    SELECT t.cycle, t.first, t.worker
      FROM ticket AS t
     WHERE t.cycle = $1 AND t.worker <> $2
       AND NOT EXISTS (SELECT FROM worker AS w WHERE w.id = t.worker AND w.until > clock_timestamp())
     LIMIT 1
       FOR UPDATE OF t SKIP LOCKED
)
UPDATE ticket AS t
   SET worker = $2
  FROM dropped AS d
 WHERE t.cycle = d.cycle AND t.first = d.first
RETURNING t.first, t.last, d.worker AS former;
