"""The front door: the `sordino` command and the data scientist's SDK."""
