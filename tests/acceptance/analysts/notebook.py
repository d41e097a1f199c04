"""Runs a notebook over a warehouse, and says how many plots it has drawn."""

import os
import sys

import nbformat
from nbclient import NotebookClient

notebook, warehouse = sys.argv[1:]
os.environ["WAREHOUSE"] = os.path.abspath(warehouse)
content = nbformat.read(notebook, as_version=4)
nbformat.validate(content)
for cell in content.cells:
    assert not cell.get("outputs"), "a notebook is kept without outputs: they are patients' data"
NotebookClient(content, timeout=300, kernel_name="python3").execute()
outputs = [output for cell in content.cells for output in cell.get("outputs", [])]
plots = sum("image/png" in output.get("data", {}) for output in outputs)
assert plots >= 5, plots
print(f"{plots} plots")
