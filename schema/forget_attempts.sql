-- forget_attempts.sql: of a warehouse that holds nothing, forgets how asking another server went.

DELETE FROM checkpoint;
DELETE FROM walk;
DELETE FROM seen;
