-- 0012_tables_of_many_types.sql: an analysts' table may be made of resources of several types.
--
-- So how far it is built is known by source: a row for each table of resources that is not read to its
-- end, up to the rowid at which the build began. A table without such a row is whole.

CREATE TABLE analyst_build (
    name      TEXT NOT NULL,
    source    TEXT NOT NULL,
    built_to  INTEGER NOT NULL,
    build_end INTEGER NOT NULL,
    PRIMARY KEY (name, source)
);

ALTER TABLE analyst_table DROP COLUMN built_to;
ALTER TABLE analyst_table DROP COLUMN build_end;
-- What was being built is built anew.
UPDATE analyst_table SET definition = '' WHERE name <> 'freshness';

-- Resources that gave a table no rows, because they would have given too many or taken too long.
CREATE TABLE analyst_left_out (
    person_id TEXT NOT NULL,
    key       TEXT NOT NULL,
    name      TEXT NOT NULL,
    PRIMARY KEY (person_id, key, name)
);

-- What the columns of the analysts' tables are, as `views describe` tells it.
CREATE TABLE analyst_column (
    table_name  TEXT NOT NULL,
    position    INTEGER NOT NULL,
    column_name TEXT NOT NULL,
    type        TEXT NOT NULL,
    description TEXT,
    path        TEXT,
    PRIMARY KEY (table_name, position)
);
