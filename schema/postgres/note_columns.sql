-- note_columns.sql: what every column of the analysts' tables is. Its type is the one that the column has.

INSERT INTO analyst_column (table_name, position, column_name, type, description, path)
SELECT u.table_name, u.position, u.column_name,
       CASE format_type(a.atttypid, NULL) WHEN 'timestamp with time zone' THEN 'timestamptz'
            ELSE format_type(a.atttypid, NULL) END,
       u.description, u.path
  FROM unnest($1, $2, $3, $4, $5) AS u(table_name, position, column_name, description, path)
  JOIN pg_class     AS c ON c.relname = u.table_name AND c.relnamespace = current_schema()::regnamespace
  JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = u.column_name AND NOT a.attisdropped;
