-- analyst_bookkeeping.sql: what is known of the analysts' tables beside `analyst_table`.
--
-- Like those tables it is made where it is missing, and can be thrown away: what it tells is worked out
-- anew. `built_to` and `build_end` of `analyst_table` are of an earlier form of it, and no longer read.

-- A row for each table of resources that an analysts' table has not read to its end, up to the rowid at
-- which the build began: a table may be made of several. One without such a row is whole.
CREATE TABLE IF NOT EXISTS analyst_build (
    name      TEXT NOT NULL,
    source    TEXT NOT NULL,
    built_to  INTEGER NOT NULL,
    build_end INTEGER NOT NULL,
    PRIMARY KEY (name, source)
);

-- Resources that gave a table no rows, because they would have given too many or taken too long.
CREATE TABLE IF NOT EXISTS analyst_left_out (
    person_id TEXT NOT NULL,
    key       TEXT NOT NULL,
    name      TEXT NOT NULL,
    PRIMARY KEY (person_id, key, name)
);

-- What the columns of the analysts' tables are, as `views describe` tells it.
CREATE TABLE IF NOT EXISTS analyst_column (
    table_name  TEXT NOT NULL,
    position    INTEGER NOT NULL,
    column_name TEXT NOT NULL,
    type        TEXT NOT NULL,
    description TEXT,
    path        TEXT,
    PRIMARY KEY (table_name, position)
);
