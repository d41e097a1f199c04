-- note_study.sql: keeps how the last reading of a study's records went.

INSERT INTO study (study, consent_type, read_at, failing_since, problem, patients)
VALUES (:study, :consent_type, :read_at, :failing_since, :problem, :patients)
ON CONFLICT (study) DO UPDATE
   SET consent_type  = excluded.consent_type,
       read_at       = excluded.read_at,
       failing_since = excluded.failing_since,
       problem       = excluded.problem,
       patients      = excluded.patients;
