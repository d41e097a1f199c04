"""Counts the observations of a warehouse as another user, with sqlite3, Python's, DuckDB, pandas, polars, Datasette and R."""

import asyncio
import glob
import os
import sqlite3
import subprocess
import sys

import duckdb
import duckdb_extension_sqlite_scanner as scanner

path, user, group, shell, *rscript = sys.argv[1:]
# Those that take seconds to begin are loaded with R or not at all.
if rscript:
    import pandas
    import polars
    from datasette.app import Datasette
query = "SELECT count(*) AS n FROM observation"
by_r = (
    "warehouse <- DBI::dbConnect(RSQLite::SQLite(), commandArgs(TRUE)[1], flags = RSQLite::SQLITE_RO); "
    "cat(DBI::dbGetQuery(warehouse, commandArgs(TRUE)[2])$n)"
)


def run(*command):
    return int(subprocess.run(command, check=True, capture_output=True, text=True, cwd="/").stdout)


async def by_datasette():
    server = Datasette([path])
    await server.invoke_startup()
    answer = await server.client.get(f"/{server.get_database().name}.json", params={"sql": query, "_shape": "array"})
    return answer.json()[0]["n"]


# Loaded before the privileges go: the folder they are in may be closed to that user.
(extension,) = glob.glob(
    os.path.join(os.path.dirname(scanner.__file__), "**", "sqlite_scanner.duckdb_extension"), recursive=True
)
duck = duckdb.connect()
duck.execute(f"LOAD '{extension}'")
os.setgroups([int(group)])
os.setgid(int(user))
os.setuid(int(user))

duck.execute(f"ATTACH '{path}' AS w (TYPE sqlite, READ_ONLY)")
plain = sqlite3.connect(path)
uri = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
counts = {
    "DuckDB": duck.execute(query.replace("FROM ", "FROM w.")).fetchone()[0],
    "sqlite3.connect": plain.execute(query).fetchone()[0],
    "sqlite3.connect, mode=ro": uri.execute(query).fetchone()[0],
    "sqlite3": run(shell, path, query),
}
for tool in rscript:
    counts["pandas"] = int(pandas.read_sql_query(query, uri)["n"][0])
    counts["polars"] = int(polars.read_database(query, uri)["n"][0])
    counts["Datasette"] = asyncio.run(by_datasette())
    counts["R"] = run(tool, "-e", by_r, path, query)
assert len(set(counts.values())) == 1, counts
print(counts["sqlite3"])
