"""Benchmarks: one file per question, run with `python -m benchmarks.NAME`."""
