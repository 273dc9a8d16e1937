"""Measurements, run by scripts/bench: each figure with the command that gives it, medians with their spread."""
