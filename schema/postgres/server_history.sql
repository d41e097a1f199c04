-- server_history.sql: which history of changes the server writes on, as one row: a standby that is made the primary, and a
-- restore, begin another timeline. Of the control file's timeline the server is told late, at its next checkpoint.
-- Asked of a server that takes writes; a standby has none.

SELECT (SELECT system_identifier FROM pg_control_system())::text      AS system,
       left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)          AS timeline;
