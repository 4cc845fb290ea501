"""What a site does for synthetic data: measure its cells, mask sums, answer counting queries."""
