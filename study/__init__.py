"""What the notebooks share: protocols, methods, runs and records, stress tests, tables, figures, and the batch."""
