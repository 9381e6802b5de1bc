"""The report card of a graph: what models are worth on it, what breaks them, and which instances to watch.

The command is `python -m stemlib.report`, and `stemlib.report.card.report` the same in Python.
"""
