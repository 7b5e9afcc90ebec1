"""Small reports, written out: a head, the counters, zones, lists and the last lines that a test names."""

import fastalloc
from fastalloc.explain.answer import Answer


def zone(
    name: str, free: int, marks: tuple[int, int, int], managed: int = 100_000, node: int | None = None, **more: int
) -> str:
    """A zone's line, in pages of 4 kB. ``more``: further fields, such as ``free_cma`` or ``boost``."""
    boost = f"boost:{more.pop('boost') * 4}kB " if "boost" in more else ""
    rest = "".join(f" {field}:{pages * 4}kB" for field, pages in ({"free_cma": 0} | more).items())
    least, low, high = (4 * mark for mark in marks)
    return (
        f"{'' if node is None else f'Node {node} '}{name} free:{free * 4}kB {boost}min:{least}kB low:{low}kB "
        f"high:{high}kB present:{managed * 4}kB managed:{managed * 4}kB mlocked:0kB{rest}\n"
    )


def reserve(*pages: int) -> str:
    """The line after a zone's."""
    return f"lowmem_reserve[]: {' '.join(map(str, pages))}\n"


def free_list(name: str, *blocks: tuple[int, str], node: int | None = None) -> str:
    """A free list: (count, letters) from order 0 on."""
    items = [
        f"{count}*{4 << order}kB" + (f" ({kinds})" if kinds else "") for order, (count, kinds) in enumerate(blocks)
    ]
    total = sum(count * 4 << order for order, (count, _) in enumerate(blocks))
    return f"{'' if node is None else f'Node {node} '}{name}: {' '.join(items)} = {total}kB\n"


def failure(release: str, order: int, mode: str, *lines: str) -> Answer:
    """The answer to a page allocation failure."""
    head = f"X: page allocation failure: order:{order}, mode:{mode}, nodemask=(null),cpuset=/,mems_allowed=0\n"
    return _answer(head, release, lines)


def oom(release: str, order: int, mode: str, *lines: str) -> Answer:
    """The answer to an OOM."""
    return _answer(f"X invoked oom-killer: gfp_mask={mode}, order={order}, oom_score_adj=0\n", release, lines)


def _answer(head: str, release: str, lines: tuple[str, ...]) -> Answer:
    text = f"{head}CPU: 0 PID: 1 Comm: X Not tainted {release} #1\nMem-Info:\n{''.join(lines)}"
    (answer,) = fastalloc.explain(text)
    return answer
