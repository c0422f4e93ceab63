"""Attacks: from evidence to one score per record, higher = more likely a member. There is one file per family, and one registry.

>>> from memberscope.attacks import registry
>>> [attack.name for attack in registry.resolve("lr,threshold")]
['trained_lr', 'threshold_loss', 'threshold_entropy']
"""
