-- medicine_of.sql: the Medication that a row r refers to, as m; none where several of that person have the id and differ.

LEFT JOIN LATERAL
               (SELECT o.*
                  FROM "{medications}" AS o
                 WHERE o.person_id = r.person_id
                   AND o.id = r.medication_id
                   AND NOT EXISTS (SELECT 1
                                     FROM "{medications}" AS d
                                    WHERE d.person_id = o.person_id
                                      AND d.id = o.id
                                      AND (d.code IS DISTINCT FROM o.code OR d.code_system IS DISTINCT FROM o.code_system
                                           OR d.code IS NULL AND d.text IS DISTINCT FROM o.text))
                 ORDER BY o."key" COLLATE "C" LIMIT 1) AS m ON true
