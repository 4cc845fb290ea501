"""Whole federations run again, with and without canaries, through the code that production runs."""
