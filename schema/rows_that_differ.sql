-- rows_that_differ.sql: whether an analysts' table holds other rows than its view gives now.
--
-- EXCEPT alone would not see a row that is there twice, so the rows are counted too.

WITH fresh AS MATERIALIZED ({select})
SELECT (SELECT count(*) FROM fresh) <> (SELECT count(*) FROM "{table}")
    OR EXISTS (SELECT * FROM fresh EXCEPT SELECT * FROM "{table}");
