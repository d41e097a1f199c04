-- adopt_server.sql: the warehouse is filled from another server from now on.
--
-- Rows stay; keys and watermarks mean nothing elsewhere, so every patient is pulled in full.

UPDATE checkpoint
   SET watermark = NULL, last_full_at = NULL, sweep_guarded_at = NULL, renamed_full_at = NULL,
       short_since = NULL, short_fingerprint = NULL, short_by = NULL, short_in_full = NULL,
       full_entries = NULL, since_ignored = 0,
       {no_pull};
DELETE FROM walk;
DELETE FROM seen;
