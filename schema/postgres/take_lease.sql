-- take_lease.sql: takes the right to write where nobody has it, or where whoever had it is silent.

INSERT INTO writer AS w (one, owner, host, pid, until)
VALUES (true, $1, $2, $3, clock_timestamp() + make_interval(secs => $4))
    ON CONFLICT (one) DO UPDATE
   SET owner = excluded.owner, host = excluded.host, pid = excluded.pid, until = excluded.until
 WHERE w.until < clock_timestamp()
RETURNING owner;
