-- results_of_a_report.sql: the results that a report refers to, in its order; one row a result or component.
--
-- A report without results is one row, and so is a result that is not in the record. Joined by person and id; where two
-- hospitals use one id, `source` tells them apart. Results inside of the report itself are in `report_results`.

SELECT coalesce(c.label, r.person_id) AS patient, substr(coalesce(r.effective, r.issued), 1, 10) AS day,
       coalesce(r.text, r.display, r.code) AS report, r.status AS report_status, x.result_index,
       coalesce(o.text, o.display, o.code, x.display) AS result, o.component_index,
       coalesce(o.comparator, x.contained_comparator) AS comparator, coalesce(o.value, x.contained_value) AS value,
       coalesce(o.ucum, o.unit, x.contained_unit) AS unit, coalesce(o.value_display, o.value_text, o.value_code, x.contained_text) AS said,
       o.interpretation, o.ref_low, o.ref_high
  FROM diagnostic_reports AS r
  LEFT JOIN report_results AS x ON x.person_id = r.person_id AND x."key" = r."key"
  LEFT JOIN observations   AS o ON o.person_id = x.person_id AND o.id = x.observation_id
                               AND (o.source IS NULL OR r.source IS NULL OR o.source = r.source)
  LEFT JOIN freshness      AS c ON c.person_id = r.person_id
 WHERE coalesce(r.status, '') <> 'cancelled'
 ORDER BY patient, day DESC, r."key", x.result_index, o."key", o.component_index;
