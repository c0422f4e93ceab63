"""The built-in trainer: the case study's architectures in TensorFlow, many models at a time where they are dense."""
