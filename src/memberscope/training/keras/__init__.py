"""The built-in trainer: the built-in architectures in TensorFlow; dense models are trained many at a time."""
