"""Generators that a site runs alone, on its own cells: measure, select, estimate, sample."""
