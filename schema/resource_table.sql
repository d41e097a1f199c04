-- resource_table.sql: the one shape that all R4 types share.
--
-- {table} is filled in from the R4 type list in the code, never from the wire. A rowid table
-- with one index: WITHOUT ROWID and every further index cost more than half the speed.

CREATE TABLE IF NOT EXISTS "{table}" (
    person_id     TEXT NOT NULL,
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
    PRIMARY KEY (person_id, key)
);
