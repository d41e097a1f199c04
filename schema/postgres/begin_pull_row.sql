-- begin_pull_row.sql: the row of a pull that has none yet.

INSERT INTO pull (person_id, finished_at, outcome, error, pages, requests, bytes, entries,
                  inserted, updated, unchanged, deleted, quarantined, mode, since, started_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
RETURNING id;
