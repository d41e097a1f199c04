-- adopt_server.sql: the warehouse is filled from another server from now on.
--
-- Rows stay; keys and watermarks mean nothing elsewhere, so every patient is pulled in full.

UPDATE checkpoint
   SET watermark = NULL, last_full_at = NULL, sweep_guarded_at = NULL, renamed_full_at = NULL,
       pull_mode = NULL, pull_types = NULL, pull_started_at = NULL, pull_since = NULL,
       pull_next_url = NULL, pull_pages = NULL, pull_walk = NULL, pull_renamed = NULL,
       pull_link_failures = NULL;
DELETE FROM walk;
DELETE FROM seen;
