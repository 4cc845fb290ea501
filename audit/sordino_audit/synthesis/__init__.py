"""Attacks on synthetic data, and on the releases that it is made of.

The code that makes a release is probed exactly and attacked with records of our own, where the
whole privacy loss can be read; what samples rows is attacked from outside, with shadow releases.
Distances to real records are shown where somebody asks for them, and prove nothing.
"""
