"""Synthetic shadow data: from the target itself (`hill_climb`), from seed records (`gan`), and for comparison from `baselines`.

`card` describes a set, and `transfer` measures how useful it is for the attack. Only `gan` needs TensorFlow.
"""
