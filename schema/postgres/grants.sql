-- grants.sql: what the worker and the analyst may do, where there are such roles. Whatever is not granted here to the
-- analyst is none of its business: purges, entries that could not be stored, who is refused.

DO $$
DECLARE
    kept text;
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{schema}_worker') THEN
        GRANT USAGE ON SCHEMA {schema} TO {schema}_worker;
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {schema}_worker;
        REVOKE INSERT, UPDATE, DELETE ON migration FROM {schema}_worker;
        ALTER DEFAULT PRIVILEGES IN SCHEMA {schema}
            GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {schema}_worker;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = '{schema}_analyst') THEN
        GRANT USAGE ON SCHEMA {schema} TO {schema}_analyst;
        GRANT SELECT ON {tables}, history, removed, analyst_column, freshness TO {schema}_analyst;
        FOR kept IN SELECT name FROM analyst_table WHERE to_regclass(quote_ident(name)) IS NOT NULL LOOP
            EXECUTE format('GRANT SELECT ON %I TO {schema}_analyst', kept);
        END LOOP;
    END IF;
END $$;
