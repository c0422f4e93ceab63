"""How exposed each record is, from models whose memberships are known: with intervals, and allowing for choosing the worst.

All measures take arrays over models and records: scaled logits (models, records), correctness (models, records) bool and membership
(models, records) bool. `memberscope.exposure.table.measure` puts them together.
"""
