-- encounters_by_month.sql: how many encounters began in each month, one row a month and class.
--
-- `start_text` is as received: its first seven letters are the month, whatever follows. What has a year alone is
-- left out.

SELECT substr(e.start_text, 1, 7) AS month, e.class, count(*) AS encounters, count(DISTINCT e.person_id) AS persons
  FROM encounters AS e
 WHERE length(e.start_text) >= 7
   AND coalesce(e.status, '') NOT IN ('planned', 'cancelled')
 GROUP BY substr(e.start_text, 1, 7), e.class
 ORDER BY month DESC, e.class;
