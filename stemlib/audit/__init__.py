"""What models are worth on a graph, measured: trained alike, stressed, taken apart; where they fail, and what to watch.

`stemlib.audit.run.audit` does all of it; `stemlib.report` says what was found.
"""
