"""The study `sweep`, and what it alone needs."""
