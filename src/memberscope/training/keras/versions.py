"""The versions that a trained model's bytes may depend on."""

from __future__ import annotations

from importlib.metadata import version

from memberscope.installed import require
from memberscope.training.store import FORMAT


def versions() -> dict[str, object]:
    """TensorFlow, Keras, numpy, and the format of our own training code; UserError without TensorFlow."""
    require("tensorflow", by="training")
    return {"format": FORMAT, **{f"version.{name}": version(name) for name in ("tensorflow", "keras", "numpy")}}
