"""The study `synthesize`, and what it alone needs."""
