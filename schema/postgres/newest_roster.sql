-- newest_roster.sql: the roster that is in force, and whether that with the hash $1 ever was.

SELECT hash, seen_at, seen_by, patients, EXISTS (SELECT FROM roster_version WHERE hash = $1) AS was_seen
  FROM roster_version
 ORDER BY seq DESC
 LIMIT 1;
