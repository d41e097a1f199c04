-- 0012_consents.sql: what HealthEx's consent records said when they were last read.
--
-- The table `consent` is that of FHIR's resources.
--
-- Of who has withdrawn and is not pulled, nothing is kept here; a purge removes a patient's rows like
-- those of any table. What outlives it is in `checkpoint`: since when the records say that there is
-- no consent, so that nobody is pulled on an answer of before.

CREATE TABLE consent_record (
    person_id      TEXT NOT NULL,
    study          TEXT NOT NULL,
    -- HealthEx's id of the record that counts.
    record_id      TEXT,
    consented      INTEGER NOT NULL CHECK (consented IN (0, 1)),
    -- NULL is never.
    expires_at     TEXT,
    -- When an answer last said so.
    seen_at        TEXT NOT NULL,
    -- xxh3-64 of what the consent lets through, and when that was looked at; a change asks for a full pull.
    scopes         INTEGER,
    scopes_seen_at TEXT,
    PRIMARY KEY (person_id, study)
) WITHOUT ROWID;

-- The studies that are asked for.
CREATE TABLE study (
    study         TEXT PRIMARY KEY,
    consent_type  TEXT NOT NULL,
    -- When the last good answer was read.
    read_at       TEXT,
    -- Since when there has been none, and why.
    failing_since TEXT,
    problem       TEXT
) WITHOUT ROWID;

-- Since when, without a break, the records have said that the consent is withdrawn or has run out.
ALTER TABLE checkpoint ADD COLUMN consent_ended_at TEXT;
-- Who lists the patient: the roster's files, a study, or both.
ALTER TABLE checkpoint ADD COLUMN listed_by TEXT NOT NULL DEFAULT 'file'
      CHECK (listed_by IN ('file', 'study', 'both'));
