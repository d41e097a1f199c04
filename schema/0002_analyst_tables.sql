-- 0002_analyst_tables.sql: which analyst tables there are, and how fresh each patient is.
--
-- A released migration is never edited, only followed.

-- One row a stored view. `definition` is a hash of its SQL: a table whose view has changed is
-- built anew at the next start, one whose view is gone is dropped.
CREATE TABLE analyst_table (
    name       TEXT PRIMARY KEY,
    resource   TEXT NOT NULL,
    definition TEXT NOT NULL,
    built_at   TEXT NOT NULL
);

-- Rows that are not marked as deleted, over the tables of all types: kept in each page's
-- transaction, because counting them when asked would read the whole file.
CREATE TABLE live_resources (
    person_id TEXT PRIMARY KEY,
    resources INTEGER NOT NULL
);

-- One row a patient. A view, because an age that was stored would be young in a warehouse
-- that nothing has written for a week.
--
-- DuckDB reads a view's text in its own dialect. So there are no date functions in here, which
-- differ: only substr, instr, CAST, % and divisions without remainder, which do not. There,
-- CURRENT_TIMESTAMP ends in the offset of its time zone; in SQLite it has none and is UTC.
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
                         ON q.person_id = c.person_id) AS told) AS parts;
