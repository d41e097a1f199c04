-- 0001_bookkeeping.sql: what the warehouse knows of itself, of each patient and of each pull.
--
-- Every table with rows of a patient has `person_id`: a purge finds its tables by that column.
-- A released migration is never edited, only followed.

-- One row a fact; `base_url` is the server whose keys and watermarks these are.
CREATE TABLE about (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE checkpoint (
    person_id          TEXT PRIMARY KEY,
    label              TEXT,
    state              TEXT NOT NULL DEFAULT 'new'
                       CHECK (state IN ('new', 'active', 'revoked', 'held', 'not_found', 'failing', 'paused')),
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

CREATE TABLE pull (
    id          INTEGER PRIMARY KEY,
    person_id   TEXT NOT NULL,
    mode        TEXT NOT NULL,
    since       TEXT,
    started_at  TEXT NOT NULL,
    finished_at TEXT,
    pages       INTEGER NOT NULL DEFAULT 0,
    requests    INTEGER NOT NULL DEFAULT 0,
    bytes       INTEGER NOT NULL DEFAULT 0,
    entries     INTEGER NOT NULL DEFAULT 0,
    inserted    INTEGER NOT NULL DEFAULT 0,
    updated     INTEGER NOT NULL DEFAULT 0,
    unchanged   INTEGER NOT NULL DEFAULT 0,
    deleted     INTEGER NOT NULL DEFAULT 0,
    quarantined INTEGER NOT NULL DEFAULT 0,
    outcome     TEXT CHECK (outcome IN ('ok', 'revoked', 'held', 'not_found', 'failed', 'interrupted')),
    error       TEXT
);
CREATE INDEX pull_by_person ON pull (person_id, id);
CREATE INDEX pull_unfinished ON pull (id) WHERE finished_at IS NULL;

CREATE TABLE purge_log (
    id            INTEGER PRIMARY KEY,
    person_id     TEXT NOT NULL,
    reason        TEXT NOT NULL CHECK (reason IN ('consent_revoked', 'operator', 'roster')),
    confirmed_at  TEXT NOT NULL,
    purged_at     TEXT NOT NULL,
    scrubbed_at   TEXT,
    rows_by_table TEXT NOT NULL
);

CREATE TABLE quarantine (
    person_id   TEXT NOT NULL,
    key         TEXT NOT NULL,
    reason      TEXT NOT NULL,
    received_at TEXT NOT NULL,
    entry       TEXT NOT NULL,
    PRIMARY KEY (person_id, key)
);

-- What the walks of a pull of several pages have seen, so that a restart can still hold
-- it against the server's count. Emptied when the pull ends.
CREATE TABLE walk (
    person_id     TEXT NOT NULL,
    walk          INTEGER NOT NULL,
    pages         INTEGER NOT NULL,
    received      INTEGER NOT NULL,
    total         INTEGER,
    total_changed INTEGER NOT NULL,
    PRIMARY KEY (person_id, walk)
);

CREATE TABLE seen (
    person_id TEXT NOT NULL,
    walk      INTEGER NOT NULL,
    key_hash  BLOB NOT NULL,
    PRIMARY KEY (person_id, walk, key_hash)
) WITHOUT ROWID;
