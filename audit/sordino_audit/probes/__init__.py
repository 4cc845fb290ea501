"""Probes of the code that makes releases: neighbours replayed, noise weighed, fields counted.

A probe asks the real trainer, site or server to do something small on made-up data and looks at
what comes out, never at how. Most are exact: with all randomness replayed, two neighbouring data
sets must give releases that differ by the clipping norm at most, and then nothing is left to
chance. The others state how often they would be wrong about correct code: 1 in a million each.
"""
