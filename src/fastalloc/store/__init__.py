"""Datasets on disk: schemas, Parquet shards, manifest, provenance."""

from fastalloc.store.read import Dataset, open_dataset, read_footer
from fastalloc.store.write import DatasetWriter

__all__ = ["Dataset", "DatasetWriter", "open_dataset", "read_footer"]
