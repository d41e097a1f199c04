-- persons.sql: what is known of one human, of all Patients of that person.
--
-- Where they disagree, what most of them say is taken, and of the name and the postal code what changed
-- last. No row of somebody of whom nothing is stored.

SELECT l.person_id,
       (SELECT birth_date FROM patients WHERE person_id = l.person_id AND birth_date IS NOT NULL
         GROUP BY birth_date ORDER BY count(*) DESC, max(changed_at) DESC, birth_date LIMIT 1)       AS birth_date,
       (SELECT coalesce(gender, CASE birth_sex WHEN 'F' THEN 'female' WHEN 'M' THEN 'male' END) AS sex
          FROM patients WHERE person_id = l.person_id AND coalesce(gender, birth_sex) IS NOT NULL
         GROUP BY sex ORDER BY sex IS NULL OR sex = 'unknown', count(*) DESC, max(changed_at) DESC, sex LIMIT 1) AS sex,
       p.deceased,
       (SELECT deceased_date FROM patients WHERE person_id = l.person_id AND deceased_date IS NOT NULL
         GROUP BY deceased_date ORDER BY count(*) DESC, deceased_date LIMIT 1)                       AS deceased_date,
       (SELECT family FROM patients WHERE person_id = l.person_id AND family IS NOT NULL
         ORDER BY coalesce(active, 1) DESC, changed_at DESC, "key" LIMIT 1)                          AS family,
       (SELECT given FROM patients WHERE person_id = l.person_id AND family IS NOT NULL
         ORDER BY coalesce(active, 1) DESC, changed_at DESC, "key" LIMIT 1)                          AS given,
       nullif(ltrim(p.american_indian || p.asian || p.black || p.hawaiian || p.other || p.unknown || p.white, ';'), '')
                                                                                                     AS races,
       (SELECT CASE ethnicity_code WHEN '2135-2' THEN 'Hispanic or Latino' WHEN '2186-5' THEN 'Not Hispanic or Latino'
                                   ELSE ethnicity END
          FROM patients WHERE person_id = l.person_id AND coalesce(ethnicity_code, ethnicity) IS NOT NULL
         ORDER BY ethnicity_code IN ('2135-2', '2186-5') DESC, changed_at DESC, "key" LIMIT 1)       AS ethnicity,
       (SELECT postal_code FROM patients WHERE person_id = l.person_id AND postal_code IS NOT NULL
         ORDER BY coalesce(active, 1) DESC, changed_at DESC, "key" LIMIT 1)                          AS postal_code,
       p.patients,
       :first_date                                                                                   AS first_date,
       :last_date                                                                                    AS last_date,
       p.source,
       p.changed_at
  FROM live_resources AS l,
       (SELECT count(*)                                                                       AS patients,
               max(deceased)                                                                  AS deceased,
               CASE WHEN max(instr(race_codes, '1002-5')) > 0 THEN ';American Indian or Alaska Native' ELSE '' END
                                                                                              AS american_indian,
               CASE WHEN max(instr(race_codes, '2028-9')) > 0 THEN ';Asian' ELSE '' END       AS asian,
               CASE WHEN max(instr(race_codes, '2054-5')) > 0 THEN ';Black or African American' ELSE '' END
                                                                                              AS black,
               CASE WHEN max(instr(race_codes, '2076-8')) > 0 THEN ';Native Hawaiian or Other Pacific Islander' ELSE '' END
                                                                                              AS hawaiian,
               CASE WHEN max(instr(race_codes, '2131-1')) > 0 THEN ';Other Race' ELSE '' END  AS other,
               CASE WHEN max(instr(race_codes, 'UNK') + instr(race_codes, 'ASKU')) > 0 THEN ';Unknown' ELSE '' END
                                                                                              AS unknown,
               CASE WHEN max(instr(race_codes, '2106-3')) > 0 THEN ';White' ELSE '' END       AS white,
               min(source)                                                                    AS source,
               max(changed_at)                                                                AS changed_at
          FROM patients WHERE person_id = :person_id) AS p
 WHERE l.person_id = :person_id
   AND l.resources > 0
