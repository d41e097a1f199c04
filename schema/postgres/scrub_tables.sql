-- scrub_tables.sql: the tables that may still hold bytes of somebody who was purged, whoever it was: each that has
-- rows of patients, or has had some, in its parts where it is divided. purge_log names nobody but by an id.
--
-- "holds" says of a part whose rows are in it; it is NULL where that is everybody's.

SELECT format('%I.%I', n.nspname, c.relname) AS name,
       pg_has_role(c.relowner, 'USAGE') AS may_rewrite,
       pg_get_partition_constraintdef(c.oid) AS holds
  FROM pg_class AS c
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
  JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'person_id' AND NOT a.attisdropped
 WHERE n.nspname IN (current_schema(), current_schema() || '_parts')
   AND c.relkind = 'r'
   AND c.relname <> 'purge_log'
   AND (pg_relation_size(c.oid) > 0 OR (c.reltoastrelid <> 0 AND pg_relation_size(c.reltoastrelid) > 0))
 ORDER BY pg_table_size(c.oid), 1;
