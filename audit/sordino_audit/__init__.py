"""Attacks what was released, and says with a confidence whether the promise held.

Production code never imports this package. It reads what leaves a site, and nothing of a record.
"""
