-- 0007_identity.sql: things are known by name, type and id; what is short or unseen is told.
--
-- The program adds `superseded_at` to each table of resources, which it knows: something newer
-- stands for the row, which is left out of the analysts' tables. What an interrupted pull had
-- seen is not carried over, because it was counted by another rule: it begins again.

-- Whether any of the patient's things has its id behind its name in its key.
ALTER TABLE checkpoint ADD COLUMN shares_names INTEGER NOT NULL DEFAULT 0;
-- Since when every pull was short, and by the same entries; NULL where nothing is thought to be missing.
ALTER TABLE checkpoint ADD COLUMN short_since TEXT;
ALTER TABLE checkpoint ADD COLUMN short_fingerprint INTEGER;
-- By how many entries the server counts more than it sends, and whether a full pull showed it.
ALTER TABLE checkpoint ADD COLUMN short_by INTEGER;
ALTER TABLE checkpoint ADD COLUMN short_in_full INTEGER;
-- When a full pull last looked for what had vanished.
ALTER TABLE checkpoint ADD COLUMN deletions_seen_at TEXT;
-- Entries of the last full pull, and how many pulls in a row have brought as many and nothing new.
ALTER TABLE checkpoint ADD COLUMN full_entries INTEGER;
ALTER TABLE checkpoint ADD COLUMN since_ignored INTEGER NOT NULL DEFAULT 0;

-- What an entry counts as, so that it is recognised when it is mended.
ALTER TABLE quarantine ADD COLUMN identity INTEGER;

-- Things of one type and id that a full pull has met side by side: one that vanishes was not renamed.
CREATE TABLE twin (
    person_id TEXT NOT NULL,
    type      TEXT NOT NULL,
    key       TEXT NOT NULL,
    PRIMARY KEY (person_id, type, key)
) WITHOUT ROWID;

DROP TABLE walk;

CREATE TABLE walk (
    person_id       TEXT NOT NULL,
    walk            INTEGER NOT NULL,
    pages           INTEGER NOT NULL,
    includes        INTEGER NOT NULL,
    received        INTEGER NOT NULL,
    total           INTEGER,
    total_changed   INTEGER NOT NULL,
    last_page       INTEGER NOT NULL,
    page_before     INTEGER NOT NULL,
    told_incomplete INTEGER NOT NULL,
    stray_outcomes  INTEGER NOT NULL,
    hides_any       INTEGER NOT NULL,
    PRIMARY KEY (person_id, walk)
);

DELETE FROM seen;
UPDATE checkpoint
   SET pull_mode = NULL, pull_types = NULL, pull_started_at = NULL, pull_since = NULL, pull_next_url = NULL,
       pull_pages = NULL, pull_walk = NULL, pull_renamed = NULL, pull_link_failures = NULL;

DROP VIEW freshness;

-- One row a patient. A view, because an age that was stored would be young in a warehouse
-- that nothing has written for a week.
--
-- DuckDB reads a view's text in its own dialect. So there are no date functions in here, which
-- differ: only substr, instr, CAST, % and divisions without remainder, which do not. There,
-- CURRENT_TIMESTAMP ends in the offset of its time zone; in SQLite it has none and is UTC.
CREATE VIEW freshness AS
SELECT person_id, label, state, is_complete, types, deletions_seen_at, short_by, watermark, last_success_at,
       round((
           365 * (now_year - then_year)
         + ((now_year - now_year % 4) - (then_year - then_year % 4)) / 4
         - ((now_year - now_year % 100) - (then_year - then_year % 100)) / 100
         + ((now_year - now_year % 400) - (then_year - then_year % 400)) / 400
         + ((now_month * 306 + 5) - (now_month * 306 + 5) % 10) / 10
         - ((then_month * 306 + 5) - (then_month * 306 + 5) % 10) / 10
         + now_day - then_day) * 24
         + (now_seconds - then_seconds) / 3600.0, 2) AS age_hours,
       live_resources, quarantined, first_full_pull_completed
  FROM (SELECT person_id, label, state, is_complete, types, deletions_seen_at, short_by, watermark, last_success_at,
               live_resources, quarantined, first_full_pull_completed,
               -- A year begins in March here, so that its leap day is its last.
               CAST(substr(then_text, 1, 4) AS INTEGER)
                 - CASE WHEN substr(then_text, 6, 2) < '03' THEN 1 ELSE 0 END        AS then_year,
               (CAST(substr(then_text, 6, 2) AS INTEGER) + 9) % 12                   AS then_month,
               CAST(substr(then_text, 9, 2) AS INTEGER)                              AS then_day,
               CAST(substr(then_text, 12, 2) AS INTEGER) * 3600
                 + CAST(substr(then_text, 15, 2) AS INTEGER) * 60
                 + CAST(substr(then_text, 18, 2) AS INTEGER)                         AS then_seconds,
               CAST(substr(now_text, 1, 4) AS INTEGER)
                 - CASE WHEN substr(now_text, 6, 2) < '03' THEN 1 ELSE 0 END       AS now_year,
               (CAST(substr(now_text, 6, 2) AS INTEGER) + 9) % 12                  AS now_month,
               CAST(substr(now_text, 9, 2) AS INTEGER)                             AS now_day,
               CAST(substr(now_text, 12, 2) AS INTEGER) * 3600
                 + CAST(substr(now_text, 15, 2) AS INTEGER) * 60
                 + CAST(substr(now_text, 18, 2) AS INTEGER)
                 - CASE WHEN instr(substr(now_text, 20), '+') > 0 THEN 1 ELSE -1 END
                   * (CAST('0' || substr(zone_text, 1, 2) AS INTEGER) * 3600
                    + CAST('0' || substr(zone_text, 4, 2) AS INTEGER) * 60)        AS now_seconds
          FROM (SELECT c.person_id, c.label, c.state, c.watermark, c.last_success_at,
                       CASE WHEN c.last_full_at IS NULL OR c.short_since IS NOT NULL THEN 0 ELSE 1 END AS is_complete,
                       nullif(c.types, '')                                    AS types,
                       c.deletions_seen_at, c.short_by,
                       CAST(c.last_success_at AS VARCHAR)                     AS then_text,
                       n.now_text,
                       -- Empty, `02` or `05:30`, without the sign.
                       CASE WHEN instr(substr(n.now_text, 20), '+') + instr(substr(n.now_text, 20), '-') = 0 THEN ''
                            ELSE substr(n.now_text, 20 + instr(substr(n.now_text, 20), '+')
                                                  + instr(substr(n.now_text, 20), '-')) END AS zone_text,
                       coalesce(l.resources, 0)                               AS live_resources,
                       coalesce(q.entries, 0)                                 AS quarantined,
                       CASE WHEN c.last_full_at IS NULL THEN 0 ELSE 1 END     AS first_full_pull_completed
                  FROM checkpoint AS c
                 CROSS JOIN (SELECT CAST(CURRENT_TIMESTAMP AS VARCHAR) AS now_text) AS n
                  LEFT JOIN live_resources AS l ON l.person_id = c.person_id
                  LEFT JOIN (SELECT person_id, count(*) AS entries FROM quarantine GROUP BY person_id) AS q
                         ON q.person_id = c.person_id
                 WHERE c.purged_at IS NULL) AS told) AS parts;
