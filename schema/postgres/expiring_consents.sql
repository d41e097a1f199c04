-- expiring_consents.sql: who is on the roster by a consent that runs out soon, the first to run out first.
--
-- Of several consents the one that lasts longest counts; one without an end never runs out.

SELECT coalesce(c.label, c.person_id), e.ends_at
  FROM (SELECT person_id, max(coalesce(expires_at, 'infinity')) AS ends_at
          FROM consent_record WHERE consented GROUP BY person_id) AS e
  JOIN checkpoint AS c ON c.person_id = e.person_id
 WHERE c.listed AND e.ends_at > $1 AND e.ends_at <= $2
 ORDER BY e.ends_at, c.person_id COLLATE "C";
