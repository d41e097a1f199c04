-- roles.sql: who owns the tables, who writes to them, and who reads them. Carried out by a role that may create
-- roles, and again whenever one likes. None of them has a password: psql's \password gives one.

DO $$
DECLARE
    wanted  text;
    setting text;
    value   text;
BEGIN
    PERFORM pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('healthex-sync {schema}', 0));
    FOREACH wanted IN ARRAY ARRAY['{schema}_owner', '{schema}_worker', '{schema}_analyst'] LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I LOGIN', wanted);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL; -- Roles are the whole server's, and somebody was quicker in another database.
            END;
        END IF;
    END LOOP;
    IF NOT pg_catalog.pg_has_role(current_user, '{schema}_owner', 'MEMBER') THEN
        EXECUTE format('GRANT {schema}_owner TO %I', current_user);
    END IF;
    FOR wanted, setting, value IN VALUES
        -- A table that was just made has no statistics, so no plan is left to be chosen.
        ('{schema}_worker', 'enable_seqscan', 'off'),
        ('{schema}_worker', 'jit', 'off'),
        ('{schema}_worker', 'lock_timeout', '10s'),
        ('{schema}_worker', 'statement_timeout', '5min'),
        ('{schema}_worker', 'idle_in_transaction_session_timeout', '30s'),
        -- A query that is forgotten keeps the last bytes of purged patients from being removed.
        ('{schema}_analyst', 'default_transaction_read_only', 'on'),
        ('{schema}_analyst', 'statement_timeout', '15min'),
        ('{schema}_analyst', 'idle_in_transaction_session_timeout', '5min'),
        ('{schema}_analyst', 'search_path', '{schema}')
    LOOP
        EXECUTE format('ALTER ROLE %I IN DATABASE %I SET %I = %L', wanted, current_database(), setting, value);
    END LOOP;
END $$;
