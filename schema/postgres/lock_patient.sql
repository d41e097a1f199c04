-- lock_patient.sql: keeps everyone else from a patient, and says how it stands before a page is stored.

SELECT c.shares_names, c.full_entries, c.last_full_at, c.since_ignored, c.short_by,
       EXISTS (SELECT 1 FROM quarantine AS q WHERE q.person_id = c.person_id) AS has_quarantined,
       EXISTS (SELECT 1 FROM walk AS w WHERE w.person_id = c.person_id) AS has_walks
  FROM checkpoint AS c
 WHERE c.person_id = $1
   FOR UPDATE OF c;
