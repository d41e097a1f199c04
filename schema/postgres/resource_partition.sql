-- resource_partition.sql: a part of a table of resources, with the rows of some patients. In a schema of its own,
-- where nobody has to look.

CREATE TABLE IF NOT EXISTS {schema}_parts."{table}_{part}"
    PARTITION OF "{table}" FOR VALUES WITH (MODULUS {parts}, REMAINDER {part});
