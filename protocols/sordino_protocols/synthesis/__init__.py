"""Synthetic data: what a table is made of, how it is fitted and how it is sampled.

Everything here works on public declarations and on noisy numbers that were paid for; none of it
reads a record. What reads records is the site's.
"""
