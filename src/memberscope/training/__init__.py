"""Training: one model (`memberscope.training.fit`)."""
