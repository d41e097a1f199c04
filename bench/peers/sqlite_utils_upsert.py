"""sqlite-utils as its documentation has it: a page is a list of dicts for upsert_all, dicts become JSON."""

import sqlite_utils

from pages import pages
from task import FOLDER, FULL, now, persons, run

database = sqlite_utils.Database(FOLDER / "sqlite_utils.db")
database.enable_wal()


def record(person, entry):
    resource = entry["resource"]
    return {
        "person_id": person,
        "full_url": entry["fullUrl"],
        "type": resource["resourceType"],
        "id": resource.get("id"),
        "resource": resource,
    }


def sync():
    cursors = {}
    if database["cursor"].exists() and not FULL:
        cursors = {row["person_id"]: row["since"] for row in database["cursor"].rows}
    for person in persons:
        begun = now()
        for entries in pages(person, cursors.get(person)):
            records = (record(person, entry) for entry in entries)
            database["resource"].upsert_all(records, pk=("person_id", "full_url"), batch_size=500)
        database["cursor"].upsert({"person_id": person, "since": begun}, pk="person_id")


run(sync, lambda: database["resource"].count, "sqlite-utils", "requests")
