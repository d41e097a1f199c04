-- note_walk.sql: the counts of a walk as far as it has come.

INSERT OR REPLACE INTO walk (person_id, walk, pages, includes, received, total, total_changed, last_page, page_before,
                             told_incomplete, stray_outcomes, hides_any)
VALUES (:person_id, :walk, :pages, :includes, :received, :total, :total_changed, :last_page, :page_before,
        :told_incomplete, :stray_outcomes, :hides_any);
