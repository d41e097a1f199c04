-- note_pull.sql: the row of a pull, new without an id: costs so far, changes to add, its end if it has come.

INSERT INTO pull (id, person_id, mode, since, started_at, finished_at, pages, requests, bytes, entries,
                  inserted, updated, unchanged, deleted, quarantined, outcome, error)
VALUES (:id, :person_id, :mode, :since, :started_at, :finished_at, :pages, :requests, :bytes, :entries,
        :inserted, :updated, :unchanged, :deleted, :quarantined, :outcome, :error)
    ON CONFLICT (id) DO UPDATE
   SET finished_at = excluded.finished_at, outcome = excluded.outcome, error = excluded.error,
       pages = excluded.pages, requests = excluded.requests, bytes = excluded.bytes, entries = excluded.entries,
       inserted = inserted + excluded.inserted, updated = updated + excluded.updated,
       unchanged = unchanged + excluded.unchanged, deleted = deleted + excluded.deleted,
       quarantined = quarantined + excluded.quarantined;
