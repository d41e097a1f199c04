-- 0003_rosters.sql: the roster that is in force, for workers that have no file or an old one.

CREATE TABLE roster (
    person_id text PRIMARY KEY,
    label     text,
    is_named  boolean NOT NULL,
    types     text,
    enabled   boolean NOT NULL
);

COMMENT ON TABLE roster IS 'the lines of the newest roster; like its file, it outlives a purge, but for the label';
COMMENT ON COLUMN roster.is_named IS 'whether the roster has a label, which may have gone with a purge';

CREATE TABLE roster_version (
    hash     text PRIMARY KEY,
    seq      bigint GENERATED ALWAYS AS IDENTITY,
    seen_at  timestamptz NOT NULL,
    seen_by  text NOT NULL,
    patients bigint NOT NULL
);

COMMENT ON TABLE roster_version IS 'every roster that was ever in force; the one with the highest seq is';

CREATE UNIQUE INDEX roster_version_seq ON roster_version (seq);
