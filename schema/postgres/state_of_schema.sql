-- state_of_schema.sql: what must be known of a server, of the schema $1 and of the role that has come in, as one row.

SELECT current_setting('server_version_num')::bigint                                 AS server_version,
       current_setting('server_version')                                             AS server_version_text,
       current_setting('server_encoding')                                            AS encoding,
       pg_is_in_recovery()                                                           AS is_standby,
       current_setting('default_transaction_read_only') = 'on'                       AS is_read_only,
       EXISTS (SELECT FROM pg_settings
                WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)) AS has_lz4,
       current_user::text                                                            AS role,
       coalesce((SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user), false)
                                                                                     AS may_create_roles,
       coalesce(pg_get_userbyid(n.nspowner)::text, current_user::text)               AS owner,
       n.oid IS NOT NULL                                                             AS has_schema,
       obj_description(n.oid, 'pg_namespace') IS NOT DISTINCT FROM 'healthex-sync'   AS is_ours,
       EXISTS (SELECT FROM pg_class WHERE relnamespace = n.oid)                      AS has_tables,
       coalesce(has_schema_privilege(n.oid, 'USAGE'), false)                         AS may_use,
       EXISTS (SELECT FROM pg_class WHERE relnamespace = n.oid AND relname = 'migration')
                                                                                     AS has_migrations,
       EXISTS (SELECT FROM pg_class WHERE relnamespace = n.oid AND relname = 'observation')
                                                                                     AS has_resources,
       (SELECT count(*) FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhparent
         WHERE c.relnamespace = n.oid AND c.relname = 'observation')                 AS partitions,
       (SELECT count(*) FROM pg_roles
         WHERE rolname IN ($1 || '_owner', $1 || '_worker', $1 || '_analyst'))       AS roles,
       (SELECT count(*) FROM pg_db_role_setting AS s
          JOIN pg_roles AS r ON r.oid = s.setrole
          JOIN pg_database AS d ON d.oid = s.setdatabase
         WHERE d.datname = current_database() AND r.rolname IN ($1 || '_worker', $1 || '_analyst'))
                                                                                     AS settings
  FROM (SELECT) AS one LEFT JOIN pg_namespace AS n ON n.nspname = $1;
