-- 0004_shorter_hashes.sql: half as many bytes for each key that a walk has seen.
--
-- What is kept of an answer while it lasts is these hashes, so they say how long one may be. What
-- an interrupted pull had seen is not carried over: it begins again.

DROP TABLE seen;

CREATE TABLE seen (
    person_id  TEXT NOT NULL,
    walk       INTEGER NOT NULL,
    page       INTEGER NOT NULL,
    -- xxh3-64 of each key of the page, eight bytes each.
    key_hashes BLOB NOT NULL,
    PRIMARY KEY (person_id, walk, page)
) WITHOUT ROWID;

DELETE FROM walk;
UPDATE checkpoint
   SET pull_mode = NULL, pull_types = NULL, pull_started_at = NULL, pull_since = NULL, pull_next_url = NULL,
       pull_pages = NULL, pull_walk = NULL, pull_renamed = NULL, pull_link_failures = NULL;
