-- forget_rows.sql: takes the rows of some resources of one person out of an analysts' table.
--
-- {of_source} is filled in where the table has rows of resources of several types.

DELETE FROM "{table}"
 WHERE person_id = :person_id
   AND "key" IN (SELECT value FROM json_each(:keys)){of_source};
