-- put_roster_in_force.sql: makes a roster the newest, also where it was one before. Whoever does so has locked the table.

INSERT INTO roster_version (hash, seen_at, seen_by, patients)
VALUES ($1, $2, $3, $4)
    ON CONFLICT (hash) DO UPDATE
   SET seq = DEFAULT, seen_at = excluded.seen_at, seen_by = excluded.seen_by;
