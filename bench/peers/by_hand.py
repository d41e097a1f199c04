"""What one writes in an afternoon: requests, json and sqlite3, an upsert, and a cursor a patient."""

import json
import sqlite3

from pages import pages
from task import FOLDER, FULL, now, persons, run

UPSERT = """
    INSERT INTO resource (person_id, full_url, type, id, resource) VALUES (?, ?, ?, ?, ?)
    ON CONFLICT (person_id, full_url) DO UPDATE SET id = excluded.id, resource = excluded.resource
     WHERE resource <> excluded.resource
"""

database = sqlite3.connect(FOLDER / "by_hand.db")
database.executescript("""
    PRAGMA journal_mode = WAL;
    CREATE TABLE IF NOT EXISTS resource (
        person_id TEXT, full_url TEXT, type TEXT, id TEXT, resource TEXT, PRIMARY KEY (person_id, full_url));
    CREATE TABLE IF NOT EXISTS cursor (person_id TEXT PRIMARY KEY, since TEXT);
""")


def row(person, entry):
    resource = entry["resource"]
    return person, entry["fullUrl"], resource["resourceType"], resource.get("id"), json.dumps(resource)


def sync():
    cursors = {} if FULL else dict(database.execute("SELECT person_id, since FROM cursor"))
    for person in persons:
        begun = now()
        for entries in pages(person, cursors.get(person)):
            with database:
                database.executemany(UPSERT, (row(person, entry) for entry in entries))
        with database:
            database.execute("INSERT OR REPLACE INTO cursor VALUES (?, ?)", (person, begun))


run(sync, lambda: database.execute("SELECT count(*) FROM resource").fetchone()[0], "requests")
