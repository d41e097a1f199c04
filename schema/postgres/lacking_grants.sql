-- lacking_grants.sql: what the role that has come in may not do with which tables of the schema $1, of what whoever
-- writes has to do.

SELECT wanted.privilege, array_agg(c.relname::text ORDER BY c.relname) AS tables
  FROM pg_class AS c
 CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS wanted (privilege)
 WHERE c.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
   AND c.relkind IN ('r', 'p')
   AND (c.relname <> 'migration' OR wanted.privilege = 'SELECT')
   AND NOT has_table_privilege(c.oid, wanted.privilege)
 GROUP BY wanted.privilege
 ORDER BY wanted.privilege;
