"""Dask workers as an executor."""

import socket
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

from fastalloc.errors import InputError
from fastalloc.scenario import Varied
from fastalloc.sweep.kinds import warm_up

CONNECT_S = 20


@contextmanager
def dask_executor(address: str, bases: list[Varied]) -> Iterator[tuple[Executor, int]]:
    """The workers of a Dask scheduler, their kernels compiled, and how many tasks they run at once.

    A worker that is lost costs its tasks of the moment; the scheduler gives them to others.

    Args:
        address: of the scheduler, such as ``tcp://10.0.0.1:8786``.
        bases: what the workers warm up with, one for each allocator.

    Raises:
        InputError: distributed is not installed, or the scheduler does not answer or has no worker.
    """
    try:
        from distributed import Client
    except ImportError:
        raise InputError("--dask", "", "needs the extra: pip install '.[cluster]'") from None
    try:
        _reach(address)  # a client that was refused waits for its own end, and then says so at length
        client = Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise InputError("--dask", address, f"no scheduler there: {error}") from None
    with client:
        workers = client.scheduler_info(n_workers=-1)["workers"]
        if not workers:
            raise InputError("--dask", address, "the scheduler has no worker")
        hosts = {info["host"]: name for name, info in workers.items()}
        # the cache of compiled kernels takes one writer a machine; the others of the machine find it filled
        client.run(warm_up, bases, workers=list(hosts.values()))
        yield client.get_executor(pure=False, retries=3), sum(client.ncores().values())


def _reach(address: str) -> None:
    """Raise OSError or ValueError where nobody answers at an address with host and port."""
    from distributed.comm.addressing import get_address_host_port, parse_address

    if parse_address(address)[0] in ("tcp", "tls"):
        socket.create_connection(get_address_host_port(address, strict=True), CONNECT_S).close()
