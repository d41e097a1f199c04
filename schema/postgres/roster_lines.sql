-- roster_lines.sql: the roster that is in force. A label that went with a purge is the one by which the patient goes now.

SELECT r.person_id, r.types, r.enabled,
       CASE WHEN r.is_named THEN coalesce(r.label, c.label) END AS label
  FROM roster AS r
  LEFT JOIN checkpoint AS c ON c.person_id = r.person_id
 ORDER BY r.person_id COLLATE "C";
