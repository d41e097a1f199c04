-- 0009_late_indexes.sql: how far an analysts' table is built, and whether it has its indexes.
--
-- A table is built in steps, between which pages are stored: `built_to` is the rowid of its source
-- table up to which its rows are there, `build_end` the one at which the build is done. Both are NULL
-- once it is whole. Pages keep up a table that is being built like any other.
--
-- The indexes that queries use are made when a table has been filled for the first time, which
-- takes half the time: until then `indexes_missing` is 1.

ALTER TABLE analyst_table ADD COLUMN built_to INTEGER;
ALTER TABLE analyst_table ADD COLUMN build_end INTEGER;
ALTER TABLE analyst_table ADD COLUMN indexes_missing INTEGER NOT NULL DEFAULT 0;
