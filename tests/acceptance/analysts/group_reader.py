"""Counts the observations of a warehouse as another user, with Python's sqlite3, DuckDB and sqlite3 itself."""

import glob
import os
import sqlite3
import subprocess
import sys

import duckdb
import duckdb_extension_sqlite_scanner as scanner

path, user, group, shell = sys.argv[1:]
query = "SELECT count(*) FROM observation"

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
told = subprocess.run([shell, path, query], check=True, capture_output=True, text=True).stdout
counts = {
    "DuckDB": duck.execute(query.replace("FROM ", "FROM w.")).fetchone()[0],
    "sqlite3.connect": plain.execute(query).fetchone()[0],
    "sqlite3.connect, mode=ro": uri.execute(query).fetchone()[0],
    "sqlite3": int(told),
}
assert len(set(counts.values())) == 1, counts
print(counts["sqlite3"])
