"""Training: the interface between studies and frameworks, the built-in trainer, and the execution of training jobs."""
