-- 0005_who_holds_rows.sql: whether rows of a patient have been stored since its last purge.
--
-- To find out cost a query for each table and patient. Set by the transaction that stores the
-- first row and cleared by the one that purges; filled in here by the program, which knows the tables.

ALTER TABLE checkpoint ADD COLUMN holds_rows INTEGER NOT NULL DEFAULT 0;
