-- encounters_by_month.sql: how many encounters began in each month, by class.
--
-- `start_text` is text as received: its first seven letters are the month, whatever follows.

SELECT substr(e.start_text, 1, 7) AS month, e.class, count(*) AS encounters,
       count(DISTINCT e.person_id) AS patients
  FROM encounters AS e
 WHERE length(e.start_text) >= 7
   AND coalesce(e.status, '') NOT IN ('cancelled', 'entered-in-error')
 GROUP BY substr(e.start_text, 1, 7), e.class
 ORDER BY month DESC, e.class;
