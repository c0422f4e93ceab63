"""The study `mitigate`, and what it alone needs."""
