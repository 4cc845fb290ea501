"""A site's records: read from a declared source, encoded by the public schema, split by key."""
