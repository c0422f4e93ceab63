"""The study `shadow`, and what it alone needs."""
