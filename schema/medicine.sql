SELECT m.code, m.code_system, m.display, coalesce(m.text, "{table}".medication_display), m.rxnorm, m.ndc, m.snomed
          FROM (SELECT 1)
          LEFT JOIN medications AS m
            ON m.rowid = (SELECT o.rowid
                            FROM medications AS o
                           WHERE o.person_id = "{table}".person_id
                             AND o.id = "{table}".medication_id
                             AND NOT EXISTS (SELECT 1
                                               FROM medications AS d
                                              WHERE d.person_id = o.person_id
                                                AND d.id = o.id
                                                AND (d.code IS NOT o.code OR d.code_system IS NOT o.code_system
                                                     OR d.code IS NULL AND d.text IS NOT o.text))
                           ORDER BY o."key" LIMIT 1)
