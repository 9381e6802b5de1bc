"""Test conditions: which instances are evaluated, and how damaged their graph is."""
