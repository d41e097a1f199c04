"""Reads a live warehouse with DuckDB, pandas, polars and Datasette, and holds each against SQLite."""

import glob
import json
import os
import sqlite3
import subprocess
import sys

import duckdb
import pandas
import polars

path, queries = sys.argv[1:]
sqlite = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
tables = [name for (name,) in sqlite.execute("SELECT name FROM analyst_table")]
assert len(tables) > 20 and "lab_results" in tables, tables

# The wheel brings the extension of exactly this DuckDB, so that nothing is downloaded.
import duckdb_extension_sqlite_scanner as scanner

(extension,) = glob.glob(
    os.path.join(os.path.dirname(scanner.__file__), "**", "sqlite_scanner.duckdb_extension"), recursive=True
)
duck = duckdb.connect()
duck.execute(f"LOAD '{extension}'")
duck.execute(f"ATTACH '{path}' AS w (TYPE sqlite, READ_ONLY)")
duck.execute("USE w")
TYPES = {"TEXT": "VARCHAR", "REAL": "DOUBLE", "INTEGER": "BIGINT", "DATE": "DATE", "DATETIME": "TIMESTAMP"}
for table in tables:
    # Every cell, not only count(*): a value that does not fit its type fails here.
    rows = duck.execute(f'SELECT * FROM "{table}"').fetchall()
    (count,) = sqlite.execute(f'SELECT count(*) FROM "{table}"').fetchone()
    assert len(rows) == count, table
    if table != "freshness":
        declared = [TYPES[kind] for _, _, kind, *_ in sqlite.execute(f'PRAGMA table_info("{table}")')]
        seen = [kind for _, kind, *_ in duck.execute(f'DESCRIBE "{table}"').fetchall()]
        assert seen == declared, (table, seen, declared)

# Of one moment in whatever time zone DuckDB thinks it is, an age is the same.
ages = "SELECT person_id, age_hours, live_resources, first_full_pull_completed FROM freshness ORDER BY person_id"
told = sqlite.execute(ages).fetchall()
for zone in ["UTC", "Asia/Kolkata", "America/St_Johns"]:
    try:
        duck.execute(f"SET TimeZone = '{zone}'")
    except duckdb.Error:
        continue  # without ICU there are no zones
    for one, other in zip(told, duck.execute(ages).fetchall(), strict=True):
        assert one[0] == other[0] and one[2:] == other[2:], (zone, one, other)
        assert abs(one[1] - other[1]) < 0.1, (zone, one, other)
duck.execute("RESET TimeZone")

for file in sorted(glob.glob(os.path.join(queries, "*.sql"))):
    query = open(file).read()
    frame = pandas.read_sql_query(query, sqlite)
    assert len(frame) == len(duck.execute(query).fetchall()) == len(sqlite.execute(query).fetchall()), file

# Each column of each table: as many values as SQLite counts, of the type that it is declared with.
for table in tables:
    declared = {name: kind for _, name, kind, *_ in sqlite.execute(f'PRAGMA table_info("{table}")')}
    columns = ", ".join(f'count("{name}")' for name in declared)
    there = dict(zip(declared, sqlite.execute(f'SELECT {columns} FROM "{table}"').fetchone()))
    times = [name for name, kind in declared.items() if kind in ("DATE", "DATETIME")]
    frame = pandas.read_sql_query(f'SELECT * FROM "{table}"', sqlite, parse_dates=times)
    by_polars = polars.read_database(f'SELECT * FROM "{table}"', sqlite, infer_schema_length=None)
    by_polars = by_polars.with_columns(
        polars.col(name).cast(polars.String).str.to_date("%Y-%m-%d") if declared[name] == "DATE"
        else polars.col(name).cast(polars.String).str.to_datetime("%Y-%m-%d %H:%M:%S")
        for name in times
    )
    by_duckdb = dict(zip(declared, duck.execute(f'SELECT {columns} FROM "{table}"').fetchone()))
    assert by_duckdb == there, (table, by_duckdb, there)
    for name, kind in declared.items():
        assert frame[name].notna().sum() == there[name], ("pandas", table, name)
        assert len(by_polars) - by_polars[name].null_count() == there[name], ("polars", table, name)
        if there[name] and kind in ("DATE", "DATETIME"):
            assert str(frame[name].dtype).startswith("datetime64"), (table, name, frame[name].dtype)
        if there[name] and kind == "REAL":
            assert frame[name].dtype == "float64", (table, name, frame[name].dtype)
            assert by_polars[name].dtype == polars.Float64, (table, name, by_polars[name].dtype)

answer = subprocess.run(
    [sys.executable, "-m", "datasette", path, "--get", "/warehouse/lab_results.json?_size=1&_extra=count"],
    capture_output=True,
    check=True,
)
assert json.loads(answer.stdout)["rows"], answer.stdout
print(f"{len(tables)} tables, DuckDB {duckdb.__version__}, pandas {pandas.__version__}, polars {polars.__version__}")
