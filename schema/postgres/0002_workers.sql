-- 0002_workers.sql: a cycle as rows, so that any number of workers share it.
--
-- A worker's lease is its own row, which it renews; what it holds are the checkpoints that name it as their owner. A
-- fence only grows: owner and fence together name one holding of a patient.

ALTER TABLE checkpoint ADD COLUMN fence bigint NOT NULL DEFAULT 0, ADD COLUMN owner text;

COMMENT ON COLUMN checkpoint.owner IS 'the worker that is dealing with the patient, if one is';
COMMENT ON COLUMN checkpoint.fence IS 'grows whenever another takes the patient over, and with a purge';

CREATE TABLE worker (
    id         text PRIMARY KEY,
    host       text NOT NULL,
    pid        bigint NOT NULL,
    realm      text,
    version    text NOT NULL,
    started_at timestamptz NOT NULL,
    seen_at    timestamptz NOT NULL,
    until      timestamptz NOT NULL,
    cycle      bigint,
    problem    text
);

COMMENT ON COLUMN worker.realm IS 'what pid is a number of: a boot of a machine, and a namespace on it';
COMMENT ON COLUMN worker.until IS 'others take over what it holds if it is silent for longer';

CREATE TABLE shared_cycle (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tick       timestamptz UNIQUE,
    started_at timestamptz NOT NULL,
    planned_at timestamptz,
    ended_at   timestamptz,
    next       bigint NOT NULL DEFAULT 0,
    total      bigint NOT NULL DEFAULT 0,
    wait_until timestamptz
);

COMMENT ON COLUMN shared_cycle.tick IS 'the moment of the schedule that it is of: no other cycle is';
COMMENT ON COLUMN shared_cycle.next IS 'how many of its turns were given out';

CREATE UNIQUE INDEX shared_cycle_open ON shared_cycle ((ended_at IS NULL)) WHERE ended_at IS NULL;

CREATE TABLE turn (
    cycle     bigint NOT NULL,
    ordinal   bigint NOT NULL,
    person_id text NOT NULL,
    fence     bigint NOT NULL,
    mode      text,
    types     text NOT NULL,
    consents  boolean NOT NULL,
    PRIMARY KEY (cycle, ordinal)
);

COMMENT ON COLUMN turn.fence IS 'of the checkpoint when the turn was planned: it is void once that has grown';
COMMENT ON COLUMN turn.mode IS 'how the patient is pulled; NULL where it is only asked whether the consent still stands';
COMMENT ON COLUMN turn.consents IS 'whether a consent record says so';

CREATE TABLE ticket (
    cycle  bigint NOT NULL,
    first  bigint NOT NULL,
    last   bigint NOT NULL,
    worker text NOT NULL,
    PRIMARY KEY (cycle, first)
);

COMMENT ON TABLE ticket IS 'turns that were given out together, until all of them are over';

CREATE TABLE shared_cycle_part (
    cycle  bigint NOT NULL,
    worker text NOT NULL,
    counts json NOT NULL,
    PRIMARY KEY (cycle, worker)
);
