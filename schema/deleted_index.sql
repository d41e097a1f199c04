-- deleted_index.sql: finds the rows of a type that are marked as deleted, where those go some day.

CREATE INDEX IF NOT EXISTS "{table}_deleted" ON "{table}" (deleted_at) WHERE deleted_at IS NOT NULL;
