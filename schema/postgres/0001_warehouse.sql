-- 0001_warehouse.sql: the bookkeeping tables, as SQLite has them after its fourteenth migration, and the one row
-- that says who may write.
--
-- Names are SQLite's; our own times are timestamptz, flags are boolean, bytes are bytea. The migrations here have
-- the numbers of SQLite's. A released migration is never edited, only followed. {compression} is lz4, where the server
-- has it.

CREATE TABLE writer (
    one   boolean PRIMARY KEY CHECK (one),
    owner text NOT NULL,
    host  text NOT NULL,
    pid   bigint NOT NULL,
    realm text,
    until timestamptz NOT NULL
);

COMMENT ON COLUMN writer.realm IS 'what pid is a number of: a boot of a machine, and a namespace on it';

CREATE TABLE about (
    name text NOT NULL,
    value text NOT NULL,
    PRIMARY KEY (name)
);

CREATE TABLE checkpoint (
    person_id text NOT NULL,
    label text,
    state text NOT NULL DEFAULT 'new' CHECK (state IN ('new', 'active', 'refused', 'revoked', 'held', 'not_found', 'failing', 'paused')),
    listed boolean NOT NULL DEFAULT true,
    watermark timestamptz,
    types text NOT NULL DEFAULT '',
    last_success_at timestamptz,
    last_full_at timestamptz,
    last_asked_at timestamptz,
    failures bigint NOT NULL DEFAULT 0,
    next_attempt_at timestamptz,
    last_error text,
    sweep_guarded_at timestamptz,
    renamed_full_at timestamptz,
    holds_rows boolean NOT NULL DEFAULT false,
    refused_at timestamptz,
    held_why text CHECK (held_why IN ('alone', 'many', 'contradicted', 'token')),
    purged_at timestamptz,
    purge_reason text,
    missing_since timestamptz,
    missing_readings bigint NOT NULL DEFAULT 0,
    pull_mode text,
    pull_types text,
    pull_started_at timestamptz,
    pull_since timestamptz,
    pull_next_url text,
    pull_pages bigint,
    pull_walk bigint,
    pull_renamed boolean,
    pull_link_failures bigint,
    shares_names boolean NOT NULL DEFAULT false,
    short_since timestamptz,
    short_fingerprint bigint,
    short_by bigint,
    short_in_full boolean,
    deletions_seen_at timestamptz,
    full_entries bigint,
    since_ignored bigint NOT NULL DEFAULT 0,
    consent_ended_at timestamptz,
    listed_by text NOT NULL DEFAULT 'file' CHECK (listed_by IN ('file', 'study', 'both')),
    PRIMARY KEY (person_id)
);

CREATE TABLE walk (
    person_id text NOT NULL,
    walk bigint NOT NULL,
    pages bigint NOT NULL,
    includes bigint NOT NULL,
    received bigint NOT NULL,
    total bigint,
    total_changed boolean NOT NULL,
    last_page bigint NOT NULL,
    page_before bigint NOT NULL,
    told_incomplete boolean NOT NULL,
    stray_outcomes bigint NOT NULL,
    hides_any boolean NOT NULL,
    PRIMARY KEY (person_id, walk)
);

CREATE TABLE seen (
    person_id text NOT NULL,
    walk bigint NOT NULL,
    page bigint NOT NULL,
    key_hashes bytea NOT NULL,
    PRIMARY KEY (person_id, walk, page)
);

CREATE TABLE twin (
    person_id text NOT NULL,
    type text NOT NULL,
    key text NOT NULL,
    PRIMARY KEY (person_id, type, key)
);

CREATE TABLE pull (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    person_id text NOT NULL,
    mode text NOT NULL,
    since timestamptz,
    started_at timestamptz NOT NULL,
    finished_at timestamptz,
    pages bigint NOT NULL DEFAULT 0,
    requests bigint NOT NULL DEFAULT 0,
    bytes bigint NOT NULL DEFAULT 0,
    entries bigint NOT NULL DEFAULT 0,
    inserted bigint NOT NULL DEFAULT 0,
    updated bigint NOT NULL DEFAULT 0,
    unchanged bigint NOT NULL DEFAULT 0,
    deleted bigint NOT NULL DEFAULT 0,
    quarantined bigint NOT NULL DEFAULT 0,
    outcome text CHECK (outcome IN ('ok', 'revoked', 'held', 'not_found', 'failed', 'interrupted')),
    error text
);

CREATE TABLE quarantine (
    person_id text NOT NULL,
    key text NOT NULL,
    reason text NOT NULL,
    received_at timestamptz NOT NULL,
    entry bytea NOT NULL,
    identity bigint,
    PRIMARY KEY (person_id, key)
);

CREATE TABLE removed (
    person_id text NOT NULL,
    type text NOT NULL,
    key text NOT NULL,
    id text,
    removed_at timestamptz NOT NULL,
    PRIMARY KEY (person_id, type, key)
);

CREATE TABLE history (
    person_id text NOT NULL,
    type text NOT NULL,
    key text NOT NULL,
    id text,
    version_id text,
    last_updated text,
    source text,
    patient text,
    first_seen_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL,
    deleted_at timestamptz,
    content_hash bytea NOT NULL CHECK (octet_length(content_hash) = 16),
    resource json {compression} NOT NULL,
    superseded_at timestamptz,
    replaced_at timestamptz NOT NULL
);

CREATE TABLE live_resources (
    person_id text NOT NULL,
    resources bigint NOT NULL,
    PRIMARY KEY (person_id)
);

CREATE TABLE purge_log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    person_id text NOT NULL,
    reason text NOT NULL CHECK (reason IN ('consent_revoked', 'operator', 'roster')),
    confirmed_at timestamptz NOT NULL,
    purged_at timestamptz NOT NULL,
    scrubbed_at timestamptz,
    rows_by_table text NOT NULL,
    refused_at timestamptz,
    by text NOT NULL DEFAULT 'healthex-sync',
    scrubbed_by text CHECK (scrubbed_by IN ('vacuum', 'zeroing')),
    first_row_at timestamptz,
    carried_out_at timestamptz
);

CREATE TABLE study (
    study text NOT NULL,
    consent_type text NOT NULL,
    read_at timestamptz,
    failing_since timestamptz,
    problem text,
    PRIMARY KEY (study)
);

CREATE TABLE consent_record (
    person_id text NOT NULL,
    study text NOT NULL,
    record_id text,
    consented boolean NOT NULL,
    expires_at timestamptz,
    seen_at timestamptz NOT NULL,
    scopes bigint,
    scopes_seen_at timestamptz,
    PRIMARY KEY (person_id, study)
);

CREATE TABLE cycle (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    started_at timestamptz NOT NULL,
    seconds double precision NOT NULL,
    verdict text NOT NULL CHECK (verdict IN ('good', 'partly', 'idle', 'interrupted', 'bad')),
    why text,
    total bigint NOT NULL,
    ok bigint NOT NULL,
    revoked bigint NOT NULL,
    held bigint NOT NULL,
    not_found bigint NOT NULL,
    failed bigint NOT NULL,
    skipped bigint NOT NULL,
    inserted bigint NOT NULL,
    updated bigint NOT NULL,
    deleted bigint NOT NULL,
    requests bigint NOT NULL
);

CREATE TABLE problem (
    kind text NOT NULL,
    since timestamptz NOT NULL,
    told_at timestamptz NOT NULL,
    text text,
    PRIMARY KEY (kind)
);

CREATE TABLE problem_patient (
    person_id text NOT NULL,
    kind text NOT NULL,
    PRIMARY KEY (person_id, kind)
);

CREATE TABLE analyst_table (
    name text NOT NULL,
    resource text NOT NULL,
    definition text NOT NULL,
    built_at timestamptz NOT NULL,
    built_to bigint,
    build_end bigint,
    indexes_missing boolean NOT NULL DEFAULT false,
    PRIMARY KEY (name)
);

CREATE TABLE analyst_build (
    name text NOT NULL,
    source text NOT NULL,
    built_to bigint NOT NULL,
    build_end bigint NOT NULL,
    PRIMARY KEY (name, source)
);

CREATE TABLE analyst_left_out (
    person_id text NOT NULL,
    key text NOT NULL,
    name text NOT NULL,
    PRIMARY KEY (person_id, key, name)
);

CREATE TABLE analyst_column (
    table_name text NOT NULL,
    position bigint NOT NULL,
    column_name text NOT NULL,
    type text NOT NULL,
    description text,
    path text,
    PRIMARY KEY (table_name, position)
);

CREATE INDEX pull_by_person ON pull (person_id, id);

CREATE INDEX pull_unfinished ON pull (id) WHERE finished_at IS NULL;

CREATE INDEX removed_by_time ON removed (removed_at);

CREATE INDEX history_of_resource ON history (person_id, type, key);

-- One row a patient that is not purged. A view, because an age that was stored would be young in a warehouse that
-- nothing has written for a week.
CREATE VIEW freshness AS
SELECT c.person_id, c.label, c.state,
       c.last_full_at IS NOT NULL AND c.short_since IS NULL                              AS is_complete,
       nullif(c.types, '')                                                               AS types,
       c.deletions_seen_at, c.short_by, c.watermark, c.last_success_at,
       round((extract(epoch FROM now() - c.last_success_at) / 3600)::numeric, 2)         AS age_hours,
       coalesce(l.resources, 0)                                                          AS live_resources,
       (SELECT count(*) FROM quarantine AS q WHERE q.person_id = c.person_id)            AS quarantined,
       c.last_full_at IS NOT NULL                                                        AS first_full_pull_completed
  FROM checkpoint AS c
  LEFT JOIN live_resources AS l ON l.person_id = c.person_id
 WHERE c.purged_at IS NULL;
