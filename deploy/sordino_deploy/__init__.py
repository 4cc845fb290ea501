"""Keys, processes and whole federations on one machine."""
