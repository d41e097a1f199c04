-- plan_turns.sql: some turns of a cycle.

INSERT INTO turn (cycle, ordinal, person_id, fence, mode, types, consents)
SELECT $1, u.ordinal, u.person_id, u.fence, u.mode, u.types, u.consents
  FROM unnest($2, $3, $4, $5, $6, $7) AS u(ordinal, person_id, fence, mode, types, consents);
