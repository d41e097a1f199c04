-- persons.sql: keeps the row of one human. Filled in by the program: the table, and the row (person_row.sql).

INSERT INTO "{persons}" AS stored (person_id, birth_date, sex, deceased, deceased_date, family, given, races, ethnicity,
                                   postal_code, patients, first_date, last_date, source, changed_at)
{row}
    ON CONFLICT (person_id) DO UPDATE
   SET birth_date = excluded.birth_date, sex = excluded.sex, deceased = excluded.deceased,
       deceased_date = excluded.deceased_date, family = excluded.family, given = excluded.given,
       races = excluded.races, ethnicity = excluded.ethnicity, postal_code = excluded.postal_code,
       patients = excluded.patients, first_date = excluded.first_date, last_date = excluded.last_date,
       source = excluded.source, changed_at = excluded.changed_at;
