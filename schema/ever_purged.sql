-- ever_purged.sql: who was ever purged, or refused before anything was stored.

SELECT person_id FROM purge_log
 UNION
SELECT person_id FROM checkpoint WHERE state IN ('revoked', 'paused');
