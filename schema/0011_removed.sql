-- 0011_removed.sql: which rows of resources are gone without a mark.
--
-- A sweep removes an entry that lives on under a new key, and `sync.keep_deleted` what was marked long
-- ago. A copy elsewhere that follows this warehouse has to hear of the first. How far back the second is
-- no longer known stands in `about`, as `removals_known_since`.
-- A released migration is never edited, only followed.

CREATE TABLE removed (
    person_id  TEXT NOT NULL,
    -- The resource table.
    type       TEXT NOT NULL,
    key        TEXT NOT NULL,
    id         TEXT,
    removed_at TEXT NOT NULL,
    PRIMARY KEY (person_id, type, key)
);
CREATE INDEX removed_by_time ON removed (removed_at);
