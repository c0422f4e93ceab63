"""Location-30, Purchase-100 and Texas-100 as data sets of TensorFlow Datasets.

Importing this module registers them, so that ``tfds.load("location30", builder_kwargs={"archive": PATH})`` works from then on. It imports
TensorFlow Datasets, which is slow, so only `memberscope.datasets.tabular` imports it, inside functions.

TFDS checks a download only against digests that are registered with TFDS itself, and does not check an archive in a folder of the user's.
These builders therefore check the SHA-256 of every archive that they read. No digest of the Purchase-100 and Texas-100 archives could be
verified, so none is registered for them; the digest of the archive is kept in the data set's metadata, for comparison.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from memberscope.datasets.archives import ARCHIVES, HOMEPAGE, ArchivedTable, read_archive
from memberscope.errors import UserError
from memberscope.progress import Progress

SHOKRI = """@inproceedings{shokri2017membership,
  title = {Membership Inference Attacks Against Machine Learning Models},
  author = {Shokri, Reza and Stronati, Marco and Song, Congzheng and Shmatikov, Vitaly},
  booktitle = {2017 IEEE Symposium on Security and Privacy},
  pages = {3--18},
  year = {2017},
  doi = {10.1109/SP.2017.41}
}"""
YANG = """@article{yang2016participatory,
  title = {Participatory Cultural Mapping Based on Collective Behavior Data in Location-Based Social Networks},
  author = {Yang, Dingqi and Zhang, Daqing and Qu, Bingqing},
  journal = {ACM Transactions on Intelligent Systems and Technology},
  volume = {7},
  number = {3},
  year = {2016}
}"""
CLASSES = "Classes keep the archive's own numbers as names, so label 0 is named 1."
STEP = 1_000  # records between two updates of the progress


class _Bits(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[misc, call-arg]  # TFDS has no types
    """The common base: a published archive of bits and classes becomes one split, ``train``, in the archive's order."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "The archive as published, rows in its order."}
    DESCRIPTION: str
    CITATION: str

    def __init__(self, *, archive: str | Path | None = None, **kwargs: Any) -> None:
        """TFDS's arguments, and `archive`, the published archive on disk; if it is None, the archive is downloaded."""
        self._archive = Path(archive) if archive else None
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        published = ARCHIVES[self.name]
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{self.DESCRIPTION} {CLASSES}",
            features=tfds.features.FeaturesDict(
                {
                    # compressed, a record takes a tenth of its bits; as single features it would take more than they do
                    "features": tfds.features.Tensor(
                        shape=(published.bits,), dtype=np.bool_, encoding=tfds.features.Encoding.ZLIB
                    ),
                    "label": tfds.features.ClassLabel(names=[str(k) for k in range(1, published.classes + 1)]),
                }
            ),
            supervised_keys=("features", "label"),
            homepage=HOMEPAGE,
            citation=self.CITATION,
            metadata=tfds.core.MetadataDict(),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        """Read and check the whole archive before anything is written, so that an invalid archive leaves nothing behind."""
        published = ARCHIVES[self.name]
        path = self._archive or Path(str(dl_manager.download(published.url)))
        try:
            table = read_archive(published, path)
        except UserError:
            if not self._archive:
                for cached in (
                    path,
                    path.with_name(f"{path.name}.INFO"),
                ):  # TFDS would take the damaged download again next time
                    cached.unlink(missing_ok=True)
            raise
        self.info.metadata["archive_sha256"] = table.sha256
        return {"train": self._generate_examples(table)}

    def _generate_examples(self, table: ArchivedTable) -> Iterator[tuple[int, dict[str, Any]]]:
        with Progress(len(table.y), f"preparing {self.name}", unit="record") as progress:
            for row, (features, label) in enumerate(zip(table.x, table.y, strict=True)):
                yield row, {"features": features, "label": int(label)}
                if (row + 1) % STEP == 0 or row + 1 == len(table.y):
                    progress.advance((row % STEP) + 1)


class Location30(_Bits):
    """Foursquare check-ins of 5,010 users in Bangkok (Shokri et al. 2017, section VI-A)."""

    DESCRIPTION = (
        "5,010 Foursquare users in Bangkok: 446 bits say which regions and which types of places each visited. The 30 classes are "
        "clusters of these records, found by the authors."
    )
    CITATION = f"{SHOKRI}\n{YANG}"


class Purchase100(_Bits):
    """Purchases of 197,324 shoppers (Shokri et al. 2017, section VI-A). No digest of its archive could be verified."""

    DESCRIPTION = (
        "197,324 shoppers of the Acquire Valued Shoppers challenge: 600 bits say which products each bought. The 100 classes are "
        "clusters of these records, found by the authors."
    )
    CITATION = SHOKRI


class Texas100(_Bits):
    """Hospital stays in Texas, by main procedure (Shokri et al. 2017, section VI-A). No digest of its archive could be verified."""

    DESCRIPTION = (
        "67,330 hospital stays from the Texas Hospital Inpatient Discharge data: 6,169 bits (the paper counts 6,170) say what is known "
        "of each: external causes, diagnoses and the patient. The 100 classes are the most frequent main procedures."
    )
    CITATION = SHOKRI


BUILDERS = {builder.name: builder for builder in (Location30, Purchase100, Texas100)}
