-- 0013_history.sql: the former versions of resources, where `warehouse.history` is on.
--
-- A version is moved here in the transaction that replaces it. The columns are those of a table of resources.
-- A purge finds the table by its `person_id`. A released migration is never edited, only followed.

CREATE TABLE history (
    person_id     TEXT NOT NULL,
    -- The resource type: Observation.
    type          TEXT NOT NULL,
    key           TEXT NOT NULL,
    id            TEXT,
    version_id    TEXT,
    last_updated  TEXT,
    source        TEXT,
    patient       TEXT,
    first_seen_at TEXT NOT NULL,
    changed_at    TEXT NOT NULL,
    deleted_at    TEXT,
    content_hash  BLOB NOT NULL CHECK (length(content_hash) = 16),
    resource      TEXT NOT NULL,
    superseded_at TEXT,
    -- When the version that followed was stored: this one held from `changed_at` until then.
    replaced_at   TEXT NOT NULL
);
CREATE INDEX history_of_resource ON history (person_id, type, key);
