-- unlist.sql: patients whom the roster lacks, and the readings of it that have lacked them.

UPDATE checkpoint AS c SET listed = false, missing_since = u.since, missing_readings = u.readings
  FROM unnest($1, $2, $3) AS u(person_id, since, readings)
 WHERE c.person_id = u.person_id;
