-- recent_purges.sql: the purges since a time, the latest first, with their rows in all.

SELECT person_id, reason, purged_at,
       (SELECT coalesce(sum(value), 0) FROM json_each(rows_by_table))
  FROM purge_log
 WHERE purged_at > ?1
 ORDER BY purged_at DESC, id DESC
 LIMIT ?2;
