-- begin_migration.sql: one at a time, as the owner of the schema. That is made where there is none, and left alone
-- where it is another program's or a newer one's.

SET LOCAL client_min_messages = warning;
DO $$
DECLARE
    owner text;
    found bigint;
BEGIN
    PERFORM pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('healthex-sync {schema}', 0));
    IF pg_catalog.to_regnamespace('{schema}') IS NULL THEN
        IF EXISTS (SELECT FROM pg_catalog.pg_roles
                    WHERE rolname = '{schema}_owner' AND pg_catalog.pg_has_role(current_user, oid, 'MEMBER')) THEN
            CREATE SCHEMA {schema} AUTHORIZATION {schema}_owner;
        ELSE
            CREATE SCHEMA {schema};
        END IF;
    END IF;
    SELECT nspowner::pg_catalog.regrole::text INTO owner FROM pg_catalog.pg_namespace WHERE nspname = '{schema}';
    IF {parts} > 0 AND pg_catalog.to_regnamespace('{schema}_parts') IS NULL THEN
        EXECUTE 'CREATE SCHEMA {schema}_parts AUTHORIZATION ' || owner;
    END IF;
    EXECUTE 'SET LOCAL ROLE ' || owner;
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_class WHERE relnamespace = '{schema}'::pg_catalog.regnamespace) THEN
        COMMENT ON SCHEMA {schema} IS 'healthex-sync';
    ELSIF pg_catalog.obj_description('{schema}'::pg_catalog.regnamespace, 'pg_namespace') IS DISTINCT FROM 'healthex-sync' THEN
        RAISE EXCEPTION 'the schema {schema} holds something of another program';
    END IF;
    CREATE TABLE IF NOT EXISTS {schema}.migration (
        version    bigint PRIMARY KEY,
        applied_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
    );
    SELECT max(version) INTO found FROM {schema}.migration;
    IF found > {version} THEN
        RAISE EXCEPTION 'the schema {schema} has version %, and this healthex-sync knows {version}', found;
    END IF;
END $$;
SET LOCAL search_path = {schema}, pg_catalog;
