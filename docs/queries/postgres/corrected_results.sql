-- corrected_results.sql: what a result said before it was corrected, one row a former version; in PostgreSQL's dialect.
--
-- Needs `history = true` under [warehouse] from before the correction on. What the result says now is empty where it
-- has been retracted, or has vanished. A value that is no number is left out.

SELECT coalesce(c.label, h.person_id) AS patient, h.id,
       h.resource ->> 'effectiveDateTime'             AS effective,
       h.resource ->> 'status'                        AS status_then,
       CASE WHEN h.resource #>> '{valueQuantity,value}' ~ '^[-+]?[0-9]+([.][0-9]+)?([eE][-+]?[0-9]{1,3})?$'
            THEN CAST(h.resource #>> '{valueQuantity,value}' AS numeric) END AS value_then,
       h.resource #>> '{valueQuantity,unit}'          AS unit_then,
       h.resource ->> 'valueString'                   AS said_then,
       h.changed_at AS held_from, h.replaced_at AS held_until,
       coalesce(o.text, o.display) AS test, o.status AS status_now, o.value AS value_now,
       coalesce(o.unit, o.ucum) AS unit_now, o.value_text AS said_now
  FROM history AS h
  LEFT JOIN observations AS o ON o.person_id = h.person_id AND o."key" = h."key" AND o.component_index IS NULL
  LEFT JOIN freshness    AS c ON c.person_id = h.person_id
 WHERE h.type = 'Observation'
 ORDER BY patient, h."key", h.replaced_at;
