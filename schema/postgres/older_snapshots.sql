-- older_snapshots.sql: who may still see rows that were deleted before the transaction $1, and so keeps a table that
-- is written anew from being rid of them: an older snapshot of this database, or an older transaction of any, which
-- every new snapshot takes into account.

SELECT seen.by
  FROM (SELECT unnest(ARRAY[backend_xid,
                            CASE WHEN datname = current_database() OR datname IS NULL THEN backend_xmin END]) AS since,
               format('the process %s of %s%s', pid, coalesce(usename, backend_type),
                      ' (' || nullif(left(application_name, 60), '') || ')') AS by
          FROM pg_stat_activity
         WHERE pid <> pg_backend_pid()
         UNION ALL
        SELECT xmin, format('the replication slot %s', slot_name) FROM pg_replication_slots
         UNION ALL
        SELECT transaction, format('the prepared transaction %s', gid) FROM pg_prepared_xacts) AS seen
 WHERE age(seen.since) > age($1::text::xid)
 ORDER BY age(seen.since) DESC
 LIMIT 1;
