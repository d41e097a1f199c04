-- 0003_seen_by_page.sql: what a walk has seen, one row a page instead of one an entry.
--
-- A row an entry cost as much as storing the entry did. What an interrupted pull had seen is
-- not carried over: it begins again.

DROP TABLE seen;

CREATE TABLE seen (
    person_id  TEXT NOT NULL,
    walk       INTEGER NOT NULL,
    page       INTEGER NOT NULL,
    -- xxh3-128 of each key of the page, sixteen bytes each.
    key_hashes BLOB NOT NULL,
    PRIMARY KEY (person_id, walk, page)
) WITHOUT ROWID;

DELETE FROM walk;
UPDATE checkpoint
   SET pull_mode = NULL, pull_types = NULL, pull_started_at = NULL, pull_since = NULL, pull_next_url = NULL,
       pull_pages = NULL, pull_walk = NULL, pull_renamed = NULL, pull_link_failures = NULL;
