-- 0006_refusals.sql: a refusal is a state of its own, and a purge leaves no label behind.
--
-- SQLite cannot change a CHECK, so `checkpoint` is copied. What a purged patient's pulls were is
-- forgotten, as a purge now does by itself.

DROP VIEW freshness;

CREATE TABLE new_checkpoint (
    person_id          TEXT PRIMARY KEY,
    label              TEXT,
    state              TEXT NOT NULL DEFAULT 'new'
                       CHECK (state IN ('new', 'active', 'refused', 'revoked', 'held', 'not_found', 'failing', 'paused')),
    -- Was in the roster when it was last read.
    listed             INTEGER NOT NULL DEFAULT 1,
    -- The next _since, and the _type filter under which it holds.
    watermark          TEXT,
    types              TEXT NOT NULL DEFAULT '',
    last_success_at    TEXT,
    last_full_at       TEXT,
    -- When the server last answered 200, 403 or 404 about this patient.
    last_asked_at      TEXT,
    failures           INTEGER NOT NULL DEFAULT 0,
    next_attempt_at    TEXT,
    last_error         TEXT,
    -- Since when a suspiciously large sweep is held back.
    sweep_guarded_at   TEXT,
    -- When renamed entries last asked for a full pull.
    renamed_full_at    TEXT,
    -- Whether rows have been stored since the last purge.
    holds_rows         INTEGER NOT NULL DEFAULT 0,
    -- Of the first in an unbroken row of refusals.
    refused_at         TEXT,
    held_why           TEXT CHECK (held_why IN ('alone', 'many', 'contradicted', 'token')),
    -- When it was last purged, if nothing has been stored since, and why.
    purged_at          TEXT,
    purge_reason       TEXT,
    -- Since when, and how often in a row, readings of the roster have lacked it.
    missing_since      TEXT,
    missing_readings   INTEGER NOT NULL DEFAULT 0,
    -- Of a pull under way; NULL without one.
    pull_mode          TEXT,
    pull_types         TEXT,
    pull_started_at    TEXT,
    pull_since         TEXT,
    pull_next_url      TEXT,
    pull_pages         INTEGER,
    pull_walk          INTEGER,
    pull_renamed       INTEGER,
    pull_link_failures INTEGER
);

INSERT INTO new_checkpoint (
       person_id, label, state, listed, watermark, types, last_success_at, last_full_at,
       last_asked_at, failures, next_attempt_at, last_error, sweep_guarded_at, renamed_full_at,
       holds_rows, pull_mode, pull_types, pull_started_at, pull_since, pull_next_url, pull_pages,
       pull_walk, pull_renamed, pull_link_failures)
SELECT
       person_id, label, state, listed, watermark, types, last_success_at, last_full_at,
       last_asked_at, failures, next_attempt_at, last_error, sweep_guarded_at, renamed_full_at,
       holds_rows, pull_mode, pull_types, pull_started_at, pull_since, pull_next_url, pull_pages,
       pull_walk, pull_renamed, pull_link_failures
  FROM checkpoint;

DROP TABLE checkpoint;
ALTER TABLE new_checkpoint RENAME TO checkpoint;

-- When the patient was first refused, and on whose word it was purged.
ALTER TABLE purge_log ADD COLUMN refused_at TEXT;
ALTER TABLE purge_log ADD COLUMN by TEXT NOT NULL DEFAULT 'healthex-sync';
-- Since when the warehouse had rows of the patient, as far as it knew: copies made from then on have them too.
ALTER TABLE purge_log ADD COLUMN first_row_at TEXT;
-- When the purge was carried out once more, because the ledger knew it and the file did not.
ALTER TABLE purge_log ADD COLUMN carried_out_at TEXT;

UPDATE checkpoint
   SET label = NULL,
       purged_at = (SELECT max(purged_at) FROM purge_log AS p WHERE p.person_id = checkpoint.person_id),
       purge_reason = (SELECT reason FROM purge_log AS p WHERE p.person_id = checkpoint.person_id ORDER BY id DESC LIMIT 1)
 WHERE holds_rows = 0 AND person_id IN (SELECT person_id FROM purge_log);
DELETE FROM pull WHERE person_id IN (SELECT person_id FROM checkpoint WHERE purged_at IS NOT NULL);

-- One row a patient that is not purged: see 0002_analyst_tables.sql.
CREATE VIEW freshness AS
SELECT person_id, label, state, watermark, last_success_at,
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
  FROM (SELECT person_id, label, state, watermark, last_success_at,
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
