"""Notebooks in a batch: a study, a grid, one job, on a laptop or a cluster."""

import sys

# jsonschema, which checks notebooks, would spend over a second of every job on a grammar of addresses. No notebook has
# a field that needs it, and jsonschema does without if the package is missing.
sys.modules.setdefault("rfc3987_syntax", None)
