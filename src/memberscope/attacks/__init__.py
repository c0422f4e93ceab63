"""Attacks: from evidence to one score per record, higher = more likely a member. One file a family, one registry.

>>> from memberscope.attacks import registry
>>> [attack.name for attack in registry.resolve("lr,threshold")]
['trained_lr', 'threshold_loss', 'threshold_entropy']
"""
