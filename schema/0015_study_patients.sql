-- 0015_study_patients.sql: how much a study's last good answer had, so that what a later one lacks is counted against it.

-- Rows of `consent_record` after that answer; a purge since then has removed some. NULL where no answer was read since
-- this column was made.
ALTER TABLE study ADD COLUMN patients INTEGER;
