-- 0008_scrubbed_by.sql: which way the last bytes of a purge were removed.

ALTER TABLE purge_log ADD COLUMN scrubbed_by TEXT CHECK (scrubbed_by IN ('zeroing', 'vacuum'));

-- Until now there was one way.
UPDATE purge_log SET scrubbed_by = 'vacuum' WHERE scrubbed_at IS NOT NULL;
