"""Where a dataset lies: a folder on a disk, or a prefix in an object store that speaks S3.

A place on a disk is a ``pathlib.Path``. One in a store is a ``StorePath``, which answers to the same names as far as
datasets use them; nothing else needs to know which of the two it holds.

A store is reached as its own tools reach it: ``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY``,
``AWS_SESSION_TOKEN``, ``AWS_REGION`` or ``AWS_DEFAULT_REGION``, ``AWS_PROFILE``.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
from pyarrow import fs

from fastalloc.bounded import MOST_JSON, bytes_of, refuse_endless, refuse_waiting
from fastalloc.errors import InputError
from fastalloc.written import write_whole

A = TypeVar("A")
B = TypeVar("B")

SCHEME = "s3://"
READERS = 16  # files read at once: a store answers late, but to many
MOST_FILE = 1 << 44  # bytes of a file that is read piece by piece
CONNECT_S, ANSWER_S, ATTEMPTS = 10, 60, 4


class StoreError(InputError):
    """A store refuses, or does not answer."""


@dataclass(frozen=True, order=True)
class StorePath:
    """An object of a store, or a prefix of some. Folders there are only in names: they need no making."""

    bucket: str
    key: str = ""

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.key}".rstrip("/")

    def __truediv__(self, part: str) -> "StorePath":
        return StorePath(self.bucket, f"{self.key}/{part}".strip("/"))

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> "StorePath":
        return StorePath(self.bucket, self.key.rpartition("/")[0])

    @property
    def address(self) -> str:
        """The path as Arrow's file systems name it."""
        return f"{self.bucket}/{self.key}".rstrip("/")

    def exists(self) -> bool:
        return self._type() is not fs.FileType.NotFound

    def is_dir(self) -> bool:
        return self._type() is fs.FileType.Directory

    def mkdir(self, parents: bool = True, exist_ok: bool = True) -> None:
        pass

    def iterdir(self) -> "Iterator[StorePath]":
        with _asking(self):
            found = _store(self.bucket).get_file_info(fs.FileSelector(self.address, allow_not_found=True))
        for info in found:
            yield self / info.base_name

    def glob(self, pattern: str) -> "Iterator[StorePath]":
        """What lies directly below and ends as ``*.parquet`` does."""
        return (path for path in self.iterdir() if path.name.endswith(pattern.removeprefix("*")))

    def read_bytes(self) -> bytes:
        return whole_file(self)

    def _type(self) -> fs.FileType:
        with _asking(self):
            return _store(self.bucket).get_file_info(self.address).type


Location = Path | StorePath


def location(text: str | Path | StorePath) -> Location:
    """A place from what a user calls it: ``s3://BUCKET/PREFIX``, or a path on a disk.

    Raises:
        InputError: an ``s3://`` without a bucket or with more than bucket and prefix.
    """
    if not isinstance(text, str):
        return text
    if not text.startswith(SCHEME):
        if re.match(r"[a-z0-9+]+://", text):
            raise InputError(text, "", "is neither a path on a disk nor s3://BUCKET/PREFIX")
        return Path(text)
    bucket, _, key = text.removeprefix(SCHEME).partition("/")
    if not bucket or re.search(r"[?#@]", text):
        raise InputError(text, "", "must be s3://BUCKET/PREFIX; all else is told by the AWS_ environment variables")
    return StorePath(bucket, key.strip("/"))


@contextmanager
def open_input(path: Location) -> Iterator[Any]:
    """A file to read from at any place, as a ``pyarrow.NativeFile``.

    Raises:
        StoreError: its store refuses or does not answer, which says nothing of the file.
        OSError: it is not there, or cannot be read.
    """
    if isinstance(path, Path):
        refuse_waiting(path, read_once=False)
        with _disk().open_input_file(str(path)) as file:
            yield file
        return
    with _asking(path), _store(path.bucket).open_input_file(path.address) as file:
        yield file


def whole_file(path: Location) -> bytes:
    """What is in a file of at most ``MOST_JSON`` bytes.

    Raises:
        InputError: it is larger, or cannot be read.
        OSError: it is not there.
    """
    if isinstance(path, Path):
        return bytes_of(path, MOST_JSON)
    with open_input(path) as file:
        data: bytes = file.read(MOST_JSON + 1)
    if len(data) > MOST_JSON:
        raise InputError(path, "", f"is more than {MOST_JSON:,} bytes")
    return data


def file_digest(path: Location) -> str:
    """SHA-256 of a file, hexadecimal.

    Raises:
        InputError: it is a device, which has no end.
        OSError: it is not there, or cannot be read.
    """
    if isinstance(path, Path) and path.exists():
        refuse_endless(path, MOST_FILE)
    with open_input(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_size(path: Location) -> int:
    """Bytes of a file."""
    if isinstance(path, Path):
        return path.stat().st_size
    with _asking(path):
        return int(_store(path.bucket).get_file_info(path.address).size)


def each(function: Callable[[A], B], items: Iterable[A], at_once: int = READERS) -> list[B]:
    """The function of each item, in order; several are waited for at once."""
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(function, items))


def scan_parquet(paths: list[Location]) -> pl.LazyFrame:
    """Shards of a table as one lazy frame; a column that some of them lack is null there."""
    options = None if isinstance(paths[0], Path) else _polars_options(paths[0].bucket)
    return pl.scan_parquet(
        list(map(str, paths)), glob=False, missing_columns="insert", extra_columns="ignore", storage_options=options
    )


def write_file(path: Location, content: Any) -> None:
    """Writes bytes so that the file is there whole or not at all, even through a crash.

    On a disk under a temporary name, synced and moved into place; in a store by one PUT, or the parts of a large one,
    which takes effect as a whole.

    Raises:
        InputError: it cannot be written.
    """
    if isinstance(path, Path):
        write_whole(path, [content])
        return
    with _asking(path, "cannot be written: "), _store(path.bucket).open_output_stream(path.address) as file:
        file.write(content)


def make_folder(dataset: Location, *names: str) -> Location:
    """A folder inside of a dataset, made where it is missing.

    Raises:
        InputError: it cannot be made, or is a link, through which others would have files written elsewhere.
    """
    folder = dataset
    for name in names:
        folder = folder / name
        if isinstance(folder, Path) and folder.is_symlink():
            raise InputError(folder, "", "is a link; nothing is written through it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(dataset, "", f"cannot be written: {error.strerror or error}") from None
    return folder


def left_behind(folder: Location) -> list[Path]:
    """Temporary files of writers that are no more. A store has none."""
    if not isinstance(folder, Path):
        return []
    found = [(path, path.suffix[1:]) for path in sorted(folder.glob(".*.*"))]
    return [path for path, pid in found if pid.isdigit() and not _alive(int(pid))]


def move(path: Location, target: Location) -> None:
    """Moves a file within its disk or store; folders of the target are made.

    Raises:
        InputError: it cannot be moved.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(path, StorePath) and isinstance(target, StorePath):
            with _asking(path, "cannot be moved: "):
                _store(path.bucket).move(path.address, target.address)
        else:
            os.replace(str(path), str(target))
    except OSError as error:
        raise InputError(path, "", f"cannot be moved: {error.strerror or error}") from None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


@cache
def _disk() -> Any:
    return fs.LocalFileSystem()


@cache
def _store(bucket: str) -> Any:
    """The file system of a bucket."""
    endpoint = _endpoint()
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region is None and endpoint is None:
        with _asking(StorePath(bucket)):
            region = fs.resolve_s3_region(bucket)
    return fs.S3FileSystem(
        endpoint_override=endpoint,
        region=region,
        connect_timeout=CONNECT_S,
        request_timeout=ANSWER_S,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
        allow_delayed_open=True,  # a small object is one PUT
    )


def _endpoint() -> str | None:
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")


def _polars_options(bucket: str) -> dict[str, str]:
    """What Polars does not find in the environment by itself."""
    options = {"aws_region": _store(bucket).region}
    if endpoint := _endpoint():
        options |= {"aws_endpoint_url": endpoint, "aws_allow_http": str(endpoint.startswith("http://")).lower()}
    return options


@contextmanager
def _asking(path: StorePath, failed: str = "") -> Iterator[None]:
    """A store's refusal in one line; that something is not there is left to the caller.

    Raises:
        StoreError: the store refuses or does not answer.
        OSError: anything else.
    """
    try:
        yield
    except OSError as error:
        found = re.search(r"AWS Error (.+?) during \w+ operation: (.*?)( \(Request ID.*)?$", str(error), re.DOTALL)
        if isinstance(error, FileNotFoundError) or found is None:
            raise
        told = f"{found[1]}: {found[2]}"
        if re.search("ACCESS_DENIED|INVALID_ACCESS_KEY|SIGNATURE|FORBIDDEN|InvalidAccessKey|403", told):
            told += "; credentials are taken from the AWS_ environment variables or ~/.aws"
        raise StoreError(path, "", failed + told) from None
