"""Test conditions: who is evaluated, and how damaged their graph is."""
