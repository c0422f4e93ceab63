"""The built-in data set: scikit-learn's 1,797 handwritten digits, at the size of the case study's images."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from memberscope.datasets.labeled import LabeledData, Sizes

SIDE = 32


@lru_cache(maxsize=1)
def _resized() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The images (1797, 32, 32, 1) and their labels (1797,)."""
    from PIL import Image
    from sklearn.datasets import load_digits as load

    bunch = load()
    small = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    large = [np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for image in small]
    return np.stack(large)[..., None], bunch.target.astype(np.int64)


def load_digits() -> LabeledData:
    """The 8x8 digits (17 grey levels) resized to 32x32x1 uint8 by bilinear interpolation.

    With clean labels there is too little to memorize, so studies replace a fifth of the labels by default.
    """
    images, labels = _resized()
    return LabeledData(
        name="digits",
        x=images.copy(),
        y=labels.copy(),
        class_names=tuple(str(digit) for digit in range(10)),
        source="scikit-learn's digits (UCI Optical Recognition of Handwritten Digits, test part), resized from 8x8 to 32x32",
        sizes=Sizes(members=600, nonmembers=600, validation=300),
        label_noise=0.2,
    )
