"""One data site: the vault that holds records, and the link that holds the network."""
