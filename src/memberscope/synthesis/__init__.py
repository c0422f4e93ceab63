"""Generated shadow data: from the target itself (`hill_climb`), from seeds (`gan`), and what both are measured against (`baselines`).

`card` says how good a set is, `transfer` how good it is for the attack. TensorFlow is in `gan` alone.
"""
