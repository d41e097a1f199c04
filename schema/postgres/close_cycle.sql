-- close_cycle.sql: ends the cycle under way. One that was not worked off leaves its tick to another.

UPDATE shared_cycle
   SET ended_at = clock_timestamp(), tick = CASE WHEN $1 THEN tick END
 WHERE ended_at IS NULL;
