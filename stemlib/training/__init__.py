"""Evaluation, fine-tuning, and pretraining."""
