-- active_problems.sql: problems that are not known to be over, one row a person, list and problem.
--
-- The problem list is told apart from the diagnoses of encounters. No clinical status is not inactive: it is shown as
-- `unknown`, unless an end is told. Several hospitals' statements of one problem are one row.

WITH problems AS (
    SELECT p.*, coalesce(p.code, lower(p.text)) AS what,
           CASE WHEN EXISTS (SELECT 1 FROM codings AS k
                              WHERE k.person_id = p.person_id AND k."key" = p."key"
                                AND k.element = 'category' AND k.code IN ('problem-list-item', 'health-concern'))
                THEN 'problem list'
                WHEN EXISTS (SELECT 1 FROM codings AS k
                              WHERE k.person_id = p.person_id AND k."key" = p."key"
                                AND k.element = 'category' AND k.code = 'encounter-diagnosis')
                THEN 'encounter diagnosis'
                ELSE 'no list' END AS list
      FROM conditions AS p
     WHERE (p.clinical_status IN ('active', 'recurrence', 'relapse')
            OR (p.clinical_status IS NULL AND p.abatement IS NULL))
       AND coalesce(p.verification_status, '') <> 'refuted'
)
SELECT coalesce(max(c.label), p.person_id) AS patient, p.list, max(coalesce(p.text, p.display, p.code)) AS problem,
       max(p.code) AS code, max(p.code_system) AS code_system, min(p.onset) AS first_onset,
       coalesce(max(p.clinical_status), 'unknown') AS status, count(*) AS statements
  FROM problems AS p
  LEFT JOIN freshness AS c ON c.person_id = p.person_id
 GROUP BY p.person_id, p.list, p.what
 ORDER BY patient, p.list DESC, first_onset DESC, problem;
