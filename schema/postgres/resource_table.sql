-- resource_table.sql: the one shape that all R4 types share.
--
-- {table} is filled in from the R4 type list in the code, never from the wire. `resource` is json, which keeps its
-- bytes, and not jsonb, which does not. {compression} is lz4, where the server has it; {partitioned} is by
-- patient, where that is wanted.

CREATE TABLE IF NOT EXISTS "{table}" (
    person_id     text NOT NULL,
    key           text NOT NULL,
    id            text,
    version_id    text,
    last_updated  text,
    source        text,
    patient       text,
    first_seen_at timestamptz NOT NULL,
    changed_at    timestamptz NOT NULL,
    deleted_at    timestamptz,
    content_hash  bytea NOT NULL CHECK (octet_length(content_hash) = 16),
    resource      json {compression} NOT NULL,
    superseded_at timestamptz,
    PRIMARY KEY (person_id, key)
){partitioned};
