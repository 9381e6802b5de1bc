"""`tests/test_solutions.py` runs these notebooks; nbval need not run them again."""

collect_ignore_glob = ["*.ipynb"]
