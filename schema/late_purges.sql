-- late_purges.sql: how many purges took longer, from the refusal to the last byte, than :seconds.
--
-- One that was carried out again on a restored file is not counted: how long it took when it was
-- made is not known there.

SELECT count(*)
  FROM purge_log
 WHERE carried_out_at IS NULL
   AND unixepoch(coalesce(scrubbed_at, :now)) - unixepoch(coalesce(refused_at, confirmed_at)) > :seconds;
