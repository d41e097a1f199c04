-- preflight.sql: what `check` tells of a server beside its schema, as one row. $1 is the schema.

SELECT coalesce((SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl), '')  AS tls,
       coalesce(inet_server_port(), 0)::bigint                                              AS port,
       current_setting('data_checksums') = 'on'                                             AS has_checksums,
       current_setting('synchronous_standby_names')                                         AS standbys,
       (SELECT count(*) FROM pg_stat_replication)                                           AS connected,
       (SELECT count(*) FROM pg_stat_replication
         WHERE sync_state IN ('sync', 'quorum'))                                            AS waited_for,
       pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')                              AS sees_standbys,
       current_setting('synchronous_commit')                                                AS synchronous_commit,
       current_setting('fsync') = 'on'                                                      AS has_fsync,
       has_schema_privilege($1, 'CREATE')                                                   AS may_define,
       current_setting('log_statement') IN ('mod', 'all')
           OR current_setting('log_min_duration_statement') <> '-1'
           AND current_setting('log_parameter_max_length') <> '0'
           OR current_setting('log_parameter_max_length_on_error') <> '0'                   AS logs_values,
       current_setting('enable_seqscan') = 'off'                                            AS has_no_seqscan,
       current_setting('idle_in_transaction_session_timeout') <> '0'                        AS has_idle_timeout;
