-- take_lease.sql: takes the right to write where nobody has it, or where whoever had it is silent or has ended ($6).

INSERT INTO writer AS w (one, owner, host, pid, realm, until)
VALUES (true, $1, $2, $3, $4, clock_timestamp() + make_interval(secs => $5))
    ON CONFLICT (one) DO UPDATE
   SET owner = excluded.owner, host = excluded.host, pid = excluded.pid, realm = excluded.realm, until = excluded.until
 WHERE w.until < clock_timestamp() OR w.owner = $6
RETURNING owner;
