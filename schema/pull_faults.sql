-- pull_faults.sql: a pull under way has all its columns, and a patient without one has none of its marks. Returns of
-- whom that is not true, and what is wrong.

SELECT person_id, 'pull columns without a pull under way' AS what
  FROM checkpoint
 WHERE pull_mode IS NULL
   AND (pull_started_at IS NOT NULL OR pull_since IS NOT NULL OR pull_next_url IS NOT NULL OR pull_pages IS NOT NULL)
 UNION ALL
SELECT person_id, 'a pull under way without its start'
  FROM checkpoint
 WHERE pull_mode IS NOT NULL AND pull_started_at IS NULL
 UNION ALL
SELECT DISTINCT w.person_id, 'marks of a pull that is not under way'
  FROM walk AS w
  LEFT JOIN checkpoint AS c ON c.person_id = w.person_id
 WHERE c.pull_mode IS NULL;
