-- 0014_service.sql: what the service remembers of itself across a restart.

-- The latest cycles of `run`; the oldest go. `why` names no patient.
CREATE TABLE cycle (
    id         INTEGER PRIMARY KEY,
    started_at TEXT NOT NULL,
    seconds    REAL NOT NULL,
    verdict    TEXT NOT NULL CHECK (verdict IN ('good', 'partly', 'idle', 'interrupted', 'bad')),
    why        TEXT,
    total      INTEGER NOT NULL,
    ok         INTEGER NOT NULL,
    revoked    INTEGER NOT NULL,
    held       INTEGER NOT NULL,
    not_found  INTEGER NOT NULL,
    failed     INTEGER NOT NULL,
    skipped    INTEGER NOT NULL,
    inserted   INTEGER NOT NULL,
    updated    INTEGER NOT NULL,
    deleted    INTEGER NOT NULL,
    requests   INTEGER NOT NULL
);

-- What needs a person, since when, and when somebody was last told. `text` names no patient.
CREATE TABLE problem (
    kind    TEXT PRIMARY KEY,
    since   TEXT NOT NULL,
    told_at TEXT NOT NULL,
    text    TEXT
);

-- The patients of a problem that somebody was told of. They go with a purge.
CREATE TABLE problem_patient (
    person_id TEXT NOT NULL,
    kind      TEXT NOT NULL,
    PRIMARY KEY (person_id, kind)
);
