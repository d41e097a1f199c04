"""What every peer is asked to do, and how it says that it has done it.

PEER.py BASE_URL TOKEN PATIENTS FOLDER [full] [duckdb]: brings all patients' entries into a database in
FOLDER; asks only for what is new since the last run there, unless it is told to ask for all. One JSON
object is printed at the end. The clock starts when everything is imported, for a service pays for that
once.
"""

import json
import platform
import sys
import time
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

BASE_URL, TOKEN, PATIENTS, FOLDER = sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4])
PAGE_SIZE = 500
FULL = "full" in sys.argv[5:]
INTO_DUCKDB = "duckdb" in sys.argv[5:]

persons = [f"patient-{number:05}" for number in range(PATIENTS)]
headers = {"Authorization": f"Bearer {TOKEN}", "Accept": "application/json"}


def everything(person):
    return f"{BASE_URL}/FHIR/R4/Person/{person}/$everything"


def now():
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def run(work, count_rows, *packages):
    begun = time.perf_counter()
    work()
    seconds = time.perf_counter() - begun
    versions = [f"Python {platform.python_version()}"] + [f"{name} {version(name)}" for name in packages]
    print(json.dumps({"seconds": seconds, "rows": count_rows(), "versions": ", ".join(versions)}))
