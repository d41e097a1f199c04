-- take_roster.sql: patients of the roster that are new, or known by another name or as missing.
--
-- The label of a purged patient is not written down again until something of it is stored.

INSERT INTO checkpoint AS c (person_id, label, listed_by)
SELECT u.person_id, u.label, u.listed_by
  FROM unnest($1, $2, $3) AS u(person_id, label, listed_by)
    ON CONFLICT (person_id) DO UPDATE
   SET label = CASE WHEN c.purged_at IS NULL THEN excluded.label END, listed = true,
       listed_by = excluded.listed_by, missing_since = NULL, missing_readings = 0;
