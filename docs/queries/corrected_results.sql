-- corrected_results.sql: what a result said before it was corrected, one row a former version.
--
-- Needs `history = true` under [warehouse] from before the correction on. What the result says now is empty where it
-- has been retracted, or has vanished.

SELECT coalesce(c.label, h.person_id) AS patient, h.id,
       trim(CAST(json_extract(h.resource, '$.effectiveDateTime') AS VARCHAR), '"')      AS effective,
       trim(CAST(json_extract(h.resource, '$.status') AS VARCHAR), '"')                 AS status_then,
       CAST(json_extract(h.resource, '$.valueQuantity.value') AS DOUBLE)                AS value_then,
       trim(CAST(json_extract(h.resource, '$.valueQuantity.unit') AS VARCHAR), '"')     AS unit_then,
       trim(CAST(json_extract(h.resource, '$.valueString') AS VARCHAR), '"')            AS said_then,
       h.changed_at AS held_from, h.replaced_at AS held_until,
       coalesce(o.text, o.display) AS test, o.status AS status_now, o.value AS value_now,
       coalesce(o.unit, o.ucum) AS unit_now, o.value_text AS said_now
  FROM history AS h
  LEFT JOIN observations AS o ON o.person_id = h.person_id AND o."key" = h."key" AND o.component_index IS NULL
  LEFT JOIN freshness    AS c ON c.person_id = h.person_id
 WHERE h.type = 'Observation'
 ORDER BY patient, h."key", h.replaced_at;
