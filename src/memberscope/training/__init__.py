"""Training: one model (`fit`), many (`fleet`)."""
