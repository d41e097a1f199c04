-- first_views.sql: the analysts' tables of a warehouse without rows. Those of one that has some are filled first, by
-- `healthex-sync views apply`.

DO $views$
BEGIN
IF EXISTS (SELECT FROM checkpoint WHERE holds_rows) THEN
    RETURN;
END IF;
{tables}
INSERT INTO analyst_table (name, resource, definition, built_at) VALUES ('freshness', '', '1', {now})
    ON CONFLICT DO NOTHING;
IF NOT EXISTS (SELECT FROM analyst_table WHERE name = 'analyst_column') THEN
{columns}
    INSERT INTO analyst_table (name, resource, definition, built_at)
    VALUES ('analyst_column', '', '{definition}', {now});
END IF;
END $views$;
