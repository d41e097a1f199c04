-- 0005_study_patients.sql: how much a study's last good answer had, so that what a later one lacks is counted against it.

ALTER TABLE study ADD COLUMN patients bigint;

COMMENT ON COLUMN study.patients IS
    'rows of consent_record after the last good answer; a purge since then has removed some';
