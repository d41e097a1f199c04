-- note_cycle.sql: remembers one cycle of the service.

INSERT INTO cycle (started_at, seconds, verdict, why, total, ok, revoked, held, not_found, failed, skipped,
                   inserted, updated, deleted, requests)
VALUES (:started_at, :seconds, :verdict, :why, :total, :ok, :revoked, :held, :not_found, :failed, :skipped,
        :inserted, :updated, :deleted, :requests);
