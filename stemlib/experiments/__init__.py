"""The study's experiments: protocols, stress tests, transfer, ablations, and the tables made of them."""
