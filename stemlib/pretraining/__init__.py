"""Pretraining on a pool of graphs: objectives, views, teacher, checkpoints."""
