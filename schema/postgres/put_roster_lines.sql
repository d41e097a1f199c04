-- put_roster_lines.sql: the lines of a roster that comes into force. The label of a purged patient is not written down again.

INSERT INTO roster (person_id, label, is_named, types, enabled)
SELECT u.person_id, CASE WHEN c.purged_at IS NULL THEN u.label END, u.label IS NOT NULL, u.types, u.enabled
  FROM unnest($1, $2, $3, $4) AS u(person_id, label, types, enabled)
  LEFT JOIN checkpoint AS c ON c.person_id = u.person_id;
