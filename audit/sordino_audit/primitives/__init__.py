"""Attacks on the primitives that everything else rests on: noise, its arithmetic, its randomness.

A mechanism is sound on paper for real numbers, exact distributions and perfect coins. These tests
ask whether the code's noise is that: which floating-point outputs prove a sum, whether histograms
of neighbours keep the claimed ratio, and whether any two draws share randomness.
"""
