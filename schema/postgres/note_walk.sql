-- note_walk.sql: the counts of a walk as far as it has come.

INSERT INTO walk (person_id, walk, pages, includes, received, total, total_changed, last_page, page_before,
                  told_incomplete, stray_outcomes, hides_any)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
    ON CONFLICT (person_id, walk) DO UPDATE
   SET pages = excluded.pages, includes = excluded.includes, received = excluded.received, total = excluded.total,
       total_changed = excluded.total_changed, last_page = excluded.last_page, page_before = excluded.page_before,
       told_incomplete = excluded.told_incomplete, stray_outcomes = excluded.stray_outcomes,
       hides_any = excluded.hides_any;
