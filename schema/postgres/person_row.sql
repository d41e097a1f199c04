-- person_row.sql: what is known of one human, of all Patients of that person; persons.sql of SQLite in other words.
--
-- Where they disagree, what most of them say is taken, and of the name and the postal code what changed
-- last. No row of somebody of whom nothing is stored. Filled in by the program: the table, and the first and the
-- last day.

WITH own AS (
    SELECT *, coalesce(gender, CASE birth_sex WHEN 'F' THEN 'female' WHEN 'M' THEN 'male' END) AS sex,
           date_trunc('second', changed_at) AS changed
      FROM "{patients}" WHERE person_id = $1
), span AS (
    {span}
), p AS (
    SELECT count(*)                                                                       AS patients,
           bool_or(deceased)                                                              AS deceased,
           CASE WHEN bool_or(strpos(race_codes, '1002-5') > 0) THEN ';American Indian or Alaska Native' ELSE '' END
                                                                                          AS american_indian,
           CASE WHEN bool_or(strpos(race_codes, '2028-9') > 0) THEN ';Asian' ELSE '' END  AS asian,
           CASE WHEN bool_or(strpos(race_codes, '2054-5') > 0) THEN ';Black or African American' ELSE '' END
                                                                                          AS black,
           CASE WHEN bool_or(strpos(race_codes, '2076-8') > 0) THEN ';Native Hawaiian or Other Pacific Islander'
                ELSE '' END                                                               AS hawaiian,
           CASE WHEN bool_or(strpos(race_codes, '2131-1') > 0) THEN ';Other Race' ELSE '' END AS other,
           CASE WHEN bool_or(strpos(race_codes, 'UNK') + strpos(race_codes, 'ASKU') > 0) THEN ';Unknown' ELSE '' END
                                                                                          AS unknown,
           CASE WHEN bool_or(strpos(race_codes, '2106-3') > 0) THEN ';White' ELSE '' END  AS white,
           min(source COLLATE "C")                                                        AS source,
           max(changed_at)                                                                AS changed_at
      FROM own
)
SELECT l.person_id,
       (SELECT birth_date FROM own WHERE birth_date IS NOT NULL
         GROUP BY birth_date ORDER BY count(*) DESC, max(changed) DESC, birth_date LIMIT 1),
       (SELECT sex FROM own WHERE coalesce(gender, birth_sex) IS NOT NULL
         GROUP BY sex ORDER BY sex IS NULL OR sex = 'unknown', count(*) DESC, max(changed) DESC,
                               sex COLLATE "C" NULLS FIRST LIMIT 1),
       p.deceased,
       (SELECT deceased_date FROM own WHERE deceased_date IS NOT NULL
         GROUP BY deceased_date ORDER BY count(*) DESC, deceased_date LIMIT 1),
       (SELECT family FROM own WHERE family IS NOT NULL
         ORDER BY coalesce(active, true) DESC, changed DESC, "key" COLLATE "C" LIMIT 1),
       (SELECT given FROM own WHERE family IS NOT NULL
         ORDER BY coalesce(active, true) DESC, changed DESC, "key" COLLATE "C" LIMIT 1),
       nullif(ltrim(p.american_indian || p.asian || p.black || p.hawaiian || p.other || p.unknown || p.white, ';'), ''),
       (SELECT CASE ethnicity_code WHEN '2135-2' THEN 'Hispanic or Latino' WHEN '2186-5' THEN 'Not Hispanic or Latino'
                                   ELSE ethnicity END
          FROM own WHERE coalesce(ethnicity_code, ethnicity) IS NOT NULL
         ORDER BY ethnicity_code IN ('2135-2', '2186-5') DESC NULLS LAST, changed DESC, "key" COLLATE "C" LIMIT 1),
       (SELECT postal_code FROM own WHERE postal_code IS NOT NULL
         ORDER BY coalesce(active, true) DESC, changed DESC, "key" COLLATE "C" LIMIT 1),
       p.patients, span.first_date, span.last_date, p.source, p.changed_at
  FROM live_resources AS l, p, span
 WHERE l.person_id = $1
   AND l.resources > 0
