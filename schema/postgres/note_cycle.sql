-- note_cycle.sql: remembers one cycle of the service.

INSERT INTO cycle (started_at, seconds, verdict, why, total, ok, revoked, held, not_found, failed, skipped,
                   inserted, updated, deleted, requests)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15);
