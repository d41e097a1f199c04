-- length_of_stay.sql: encounters with how long they were, the stays in hospital marked; one row an encounter.
--
-- `hours` is of the times of both ends, else the length that is told, else of whole days; without any of them, and within
-- one day, it is empty. `still_open` says that no end is told.

SELECT coalesce(c.label, e.person_id) AS patient, substr(e.start_text, 1, 10) AS began, substr(e.end_text, 1, 10) AS ended,
       e.class, e.class_display, coalesce(e.text, e.display) AS what, e.status, round(e.length_hours, 1) AS hours,
       CASE WHEN e.class IN ('IMP', 'ACUTE', 'NONAC', 'OBSENC', 'SS') THEN round(e.length_hours / 24, 1) END AS days_in_hospital,
       CASE WHEN e.end_text IS NULL AND coalesce(e.status, '') <> 'finished' THEN 1 ELSE 0 END AS still_open,
       e.discharge
  FROM encounters AS e
  LEFT JOIN freshness AS c ON c.person_id = e.person_id
 WHERE coalesce(e.status, '') NOT IN ('planned', 'cancelled')
 ORDER BY patient, began DESC, e."key";
