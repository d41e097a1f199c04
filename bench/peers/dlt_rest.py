"""dlt's REST source, into SQLite (by its sqlalchemy destination) or into DuckDB.

As its documentation recommends for documents: the resource is one `json` column and not a tree of
tables, the patients' pages are fetched in parallel, and rows are merged by a primary key. The records
have no lastUpdated that a cursor could read, so the time a run began is kept in the pipeline's state.
"""

import os

# Asked for before dlt reads them: no telemetry, and nothing but errors in the log.
os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
os.environ["RUNTIME__LOG_LEVEL"] = "ERROR"

import dlt
from dlt.sources.rest_api import rest_api_source

from task import BASE_URL, FOLDER, INTO_DUCKDB, PAGE_SIZE, TOKEN, now, persons, run

if INTO_DUCKDB:
    destination = dlt.destinations.duckdb(str(FOLDER / "dlt.duckdb"))
else:
    destination = dlt.destinations.sqlalchemy(f"sqlite:///{FOLDER / 'dlt.db'}")

pipeline = dlt.pipeline(
    "bench", destination=destination, dataset_name="fhir", pipelines_dir=str(FOLDER / "pipelines")
)


@dlt.resource(selected=False)
def patients():
    yield [{"person": person} for person in persons]


def flat(item):
    return {
        "person_id": item["_patients_person"],
        "full_url": item["fullUrl"],
        "type": item["resource"]["resourceType"],
        "id": item["resource"].get("id"),
        "resource": item["resource"],
    }


def source(since):
    parameters = {"_count": PAGE_SIZE}
    if since:
        parameters["_since"] = since
    return rest_api_source({
        "client": {
            "base_url": f"{BASE_URL}/FHIR/R4/",
            "auth": {"type": "bearer", "token": TOKEN},
            "paginator": {"type": "json_link", "next_url_path": "link[?(@.relation=='next')].url"},
        },
        "resources": [
            patients(),
            {
                "name": "resource",
                "endpoint": {
                    "path": "Person/{resources.patients.person}/$everything",
                    "params": parameters,
                    "data_selector": "entry",
                },
                "include_from_parent": ["person"],
                "processing_steps": [{"map": flat}],
                "primary_key": ["person_id", "full_url"],
                "write_disposition": "merge",
                "columns": {"resource": {"data_type": "json"}},
                "parallelized": True,
            },
        ],
    }, name="healthex")


def sync():
    begun = now()
    pipeline.sync_destination()
    since = pipeline.state.get("sources", {}).get("healthex", {}).get("since")
    pipeline.run(source(since))
    with pipeline.managed_state() as state:
        state.setdefault("sources", {}).setdefault("healthex", {})["since"] = begun


def count_rows():
    with pipeline.sql_client() as client:
        return client.execute_sql("SELECT count(*) FROM resource")[0][0]


run(sync, count_rows, "dlt", "duckdb" if INTO_DUCKDB else "SQLAlchemy")
