"""What models are worth on a graph, measured: trained alike, stressed, taken apart; whom they fail, and what to watch.

`stemlib.audit.run.audit` does all of it; `stemlib.report` tells what was found.
"""
