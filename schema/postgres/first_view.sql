-- first_view.sql: one of them. What the server refuses is left out, and told by the command that makes it by itself.

IF NOT EXISTS (SELECT FROM analyst_table WHERE name = '{name}') THEN
    BEGIN
{create}
        INSERT INTO analyst_table (name, resource, definition, built_at)
        VALUES ('{name}', '{resource}', '{definition}', {now});
    EXCEPTION WHEN OTHERS THEN
        RAISE WARNING '{name} is left out: %', SQLERRM;
    END;
END IF;
