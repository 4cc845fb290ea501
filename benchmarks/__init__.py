"""Benchmarks: each prints its figures with the bar they must clear, as a table or as JSON."""
