-- 0004_skew.sql: which releases can work with a schema, where not all workers are of one.

ALTER TABLE migration ADD COLUMN needs_worker bigint;

COMMENT ON COLUMN migration.needs_worker IS
    'a program can work with this version if it knows that one at least; where there is none, it has to know this one';
