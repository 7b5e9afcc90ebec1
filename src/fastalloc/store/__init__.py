"""Datasets on disk: schemas, Parquet shards, manifest, provenance."""

from fastalloc.store.provenance import MODEL_VERSION, model_digest
from fastalloc.store.read import Dataset, open_dataset, read_footer
from fastalloc.store.write import DatasetWriter

__all__ = ["MODEL_VERSION", "Dataset", "DatasetWriter", "model_digest", "open_dataset", "read_footer"]
