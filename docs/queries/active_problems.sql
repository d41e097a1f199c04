-- active_problems.sql: problems that are not over and were not entered in error, newest first.

SELECT c.label, p.onset, coalesce(p.text, p.display) AS problem, p.snomed, p.icd10
  FROM conditions AS p
  JOIN checkpoint AS c ON c.person_id = p.person_id
 WHERE p.clinical_status IN ('active', 'recurrence', 'relapse')
   AND coalesce(p.verification_status, '') NOT IN ('entered-in-error', 'refuted')
 ORDER BY c.label, p.onset DESC, problem, p."key";
