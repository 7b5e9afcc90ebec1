"""What a verdict on a dataset rests on, where that is less than what was asked."""

from collections.abc import Mapping
from typing import Any

from fastalloc.errors import printable
from fastalloc.store.check import check_dataset
from fastalloc.store.read import Dataset

FAULTS_TOLD = 3
_STATUS = {
    "running": "it is still running, or was killed",
    "part": "it is still running, was killed, or is one slice of a sweep",
    "interrupted": "it was stopped before its last lane",
    "failed": "a lane failed",
}


def doubts(dataset: Dataset) -> list[str]:
    """Sentences on lanes that are missing, failed or still run, and on files that are not as they were written.

    Every file is read. Empty where all is there and sound.
    """
    said = missing(dataset.manifest)
    faults = check_dataset(dataset.path).faults
    said += [printable(f"{fault.path.name}: {fault.message}") for fault in faults[:FAULTS_TOLD]]
    if len(faults) > FAULTS_TOLD:
        said.append(f"{len(faults) - FAULTS_TOLD} more faults (`fastalloc dataset check` names all)")
    return said


def missing(manifest: Mapping[str, Any]) -> list[str]:
    """Of these, the sentences that the manifest alone gives: on its status, and on lanes that broke or are missing."""
    said = []
    status = str(manifest.get("status"))
    if status == "running" and manifest.get("kind") == "sweep":
        status = "part"
    if status != "complete":
        failed = manifest.get("failed")
        said.append(_STATUS.get(status, f"its status is {printable(status)!r}") + (f": {failed}" if failed else ""))
    if manifest.get("kind") != "sweep":
        for variant in manifest["variants"]:
            if variant["lanes"] < manifest["lanes"]:
                said.append(f"{variant['name']} has {variant['lanes']:,} of {manifest['lanes']:,} lanes")
    for lane in manifest.get("broken", [])[:FAULTS_TOLD]:
        said.append(f"{lane['told']}; again with: {lane['again']}")
    if len(manifest.get("broken", [])) > FAULTS_TOLD:
        said.append(f"{len(manifest['broken']):,} lanes broke in all")
    return [printable(" ".join(each.split())) for each in said]


__all__ = ["doubts", "missing"]
