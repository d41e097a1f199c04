-- log_purge.sql: a purge, as an auditor asks for it; its last bytes are still in the server's files.

INSERT INTO purge_log (person_id, reason, by, refused_at, confirmed_at, purged_at, first_row_at, carried_out_at,
                       rows_by_table)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9);
