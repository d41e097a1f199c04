-- smoking_status.sql: each person's latest smoking status, one row a person; `group` puts the codes in use together.

WITH told AS (
    SELECT o.person_id, o."key", coalesce(substr(o.effective, 1, 10), substr(o.issued, 1, 10)) AS day, o.effective_at,
           o.value_code, coalesce(o.value_display, o.value_text) AS said
      FROM observations AS o
     WHERE o.loinc IN ('72166-2', '11367-0')
       AND coalesce(o.status, '') NOT IN ('cancelled', 'registered')
       AND (o.value_code IS NOT NULL OR o.value_text IS NOT NULL)
), latest AS (
    SELECT told.*, row_number() OVER (PARTITION BY person_id
                       ORDER BY coalesce(day, '') DESC, effective_at IS NULL, effective_at DESC, "key") AS place
      FROM told
)
SELECT coalesce(c.label, l.person_id) AS patient, l.day,
       CASE WHEN l.value_code IN ('266919005', '405746006') THEN 'never'
            WHEN l.value_code IN ('8517006', '281018007') THEN 'former'
            WHEN l.value_code IN ('449868002', '428041000124106', '77176002', '428061000124105', '428071000124103',
                                  '65568007', '230059006', '230060001', '160603005') THEN 'current'
            WHEN l.value_code = '266927001' THEN 'unknown'
            WHEN lower(l.said) LIKE 'never%' THEN 'never'
            WHEN lower(l.said) LIKE 'former%' OR lower(l.said) LIKE 'ex-smoker%' THEN 'former'
            WHEN lower(l.said) LIKE 'current%' OR lower(l.said) LIKE 'smokes%' THEN 'current'
            ELSE 'look at said' END AS smoking, l.value_code, l.said
  FROM latest AS l
  LEFT JOIN freshness AS c ON c.person_id = l.person_id
 WHERE l.place = 1
 ORDER BY patient;
