"""Membership attacks on trained models: scores of members and of others, and what they show.

An attack is a pure function from what an adversary sees (confidences, losses, gradients) to one
score a target, higher = more likely a member; `results` turns scores into rates and a bound.
"""
