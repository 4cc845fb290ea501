"""What sites, server and auditor agree on: data, checks and arithmetic, no processes."""
