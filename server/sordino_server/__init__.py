"""The coordinator: it admits, aggregates and certifies, and never sees a record."""
