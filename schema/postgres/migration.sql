-- migration.sql: carries one migration out where it has not been.

DO $migration$
BEGIN
IF NOT EXISTS (SELECT FROM migration WHERE version >= {version}) THEN
{migration}
END IF;
END $migration$;
