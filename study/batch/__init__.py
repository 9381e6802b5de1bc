"""Notebooks in a batch: a study, a grid, one job, on a laptop or a cluster."""

import sys

# jsonschema, which reads notebooks, would build a grammar of addresses for more than a second in every job. No notebook
# has a field that needs it, and jsonschema does without where the package is not there.
sys.modules.setdefault("rfc3987_syntax", None)
