"""The evidence file: what kept runs found, as one JSON document of a published schema, and the same runs read back from it.

The page, the gate's JUnit file and the model cards are made from runs as they are kept. Here such runs become a document and a document
becomes such runs again, so that there is one way from what was found to what is shown, whether the runs come from a tracking server or
from a file.
"""

from memberscope.report.evidence.document import SCHEMA_VERSION, Document, to_json, written
from memberscope.report.evidence.reading import EvidenceFile, parse, read
from memberscope.report.evidence.schema import schema

__all__ = ["SCHEMA_VERSION", "Document", "EvidenceFile", "parse", "read", "schema", "to_json", "written"]
