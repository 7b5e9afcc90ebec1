"""Machines of any shape: sizes, nodes, page sizes, zones and kernels as architectures have them, for Hypothesis."""

from typing import Any

from hypothesis import strategies as st

from fastalloc.linux.release import Base, parse_base

KERNELS = (
    "2.6.9", "2.6.12", "2.6.18", "2.6.24", "2.6.25-rc8", "2.6.32", "3.2", "3.10", "4.4", "4.9", "4.19", "5.4", "5.10",
    "5.15", "6.1", "6.5", "6.6", "6.12", "6.18", "7.0", "7.3",
)  # fmt: skip
# Zones of an architecture, lowest first, each with its share of a machine's memory.
LAYOUTS: tuple[dict[str, float], ...] = (
    {"Normal": 1.0},
    {"DMA": 1.0},
    {"DMA32": 1.0},
    {"DMA": 0.02, "DMA32": 0.98},
    {"DMA": 0.02, "Normal": 0.98},
    {"DMA": 0.01, "DMA32": 0.3, "Normal": 0.69},
    {"DMA": 0.02, "Normal": 0.5, "HighMem": 0.48},
    {"Normal": 0.4, "HighMem": 0.6},
    {"Normal": 0.3, "HighMem": 0.4, "Movable": 0.3},
    {"DMA32": 0.3, "Normal": 0.4, "Movable": 0.3},
    {"DMA": 0.02, "DMA32": 0.2, "Normal": 0.38, "Movable": 0.4},
)
KERNEL_ONLY = ("HighMem", "Movable")  # names of zones that no request of the kernel's own may use


@st.composite
def machines(draw, most_mb=256 << 10, most_cpus=1024):
    """A machine as plain data whose marks follow from min_free_kbytes: 34 MB to ``most_mb``."""
    layout = draw(st.sampled_from(LAYOUTS))
    page_kb = draw(st.sampled_from([4, 4, 4, 16, 64]))
    kernel = draw(st.sampled_from(KERNELS))
    # 34 MB of pages of 64 kB are 544, too few to boot; a machine of such pages has more
    megabytes = draw(st.one_of(st.integers(34, 600), st.integers(34, most_mb))) * (page_kb // 4)
    nodes = draw(st.lists(st.integers(0, 15), min_size=1, max_size=8, unique=True))
    pages = megabytes * 1024 // page_kb // len(nodes)
    names = list(layout)
    zones = []
    for node in sorted(nodes):
        # the low zones are on the first node alone
        own = layout if node == min(nodes) else {names[-1]: 1.0}
        for name, share in own.items():
            present = max(64, int(pages * share))
            cma = draw(st.sampled_from([0, 0, 0, present // 8]))
            zones.append(
                {
                    "node": node, "name": name, "present": present, "min": 0, "low": 0, "high": 0,
                    "protection": [draw(st.integers(0, present // 8)) if names.index(name) < j else 0
                                   for j in range(len(names))],
                    "pcp_high": draw(st.sampled_from([0, 6, 186])), "pcp_batch": draw(st.sampled_from([1, 7, 31, 63])),
                    "cma": cma, "highatomic": draw(st.sampled_from([0, 0, present // 100])),
                }
            )  # fmt: skip
    data: dict[str, Any] = {
        "name": "generated", "kernel": kernel, "page_kb": page_kb, "zones": zones,
        "cpus": draw(st.one_of(st.integers(1, 8), st.integers(1, most_cpus))),
        "min_free_kbytes": draw(st.one_of(st.integers(128, 4096), st.integers(128, 1 << 18))),
    }  # fmt: skip
    if base_of(kernel) >= (4, 6, 0) and draw(st.booleans()):
        data["watermark_scale_factor"] = draw(st.sampled_from([1, 10, 100, 1000]))
    return data


def base_of(kernel: str) -> Base:
    """``2.6.25-rc8`` as (2, 6, 25)."""
    return parse_base(kernel.split("-")[0])


def marks(data: dict[str, Any]) -> list[tuple[int, int, int]]:
    """min, low and high of each zone, from the kernel's source by hand.

    mm/page_alloc.c: setup_per_zone_pages_min of 2.6.9, 2.6.12 and 2.6.18, __setup_per_zone_wmarks of 4.6 and 6.6.
    """
    base, factor = base_of(data["kernel"]), data.get("watermark_scale_factor", 10)
    names = {zone["name"] for zone in data["zones"]}

    def highmem(name: str) -> bool:
        return name == "HighMem" or (name == "Movable" and ("HighMem" in names or base >= (6, 6, 0)))

    pages = data["min_free_kbytes"] // data["page_kb"]
    lowmem = sum(zone["present"] for zone in data["zones"] if not highmem(zone["name"]))
    found = []
    for zone in data["zones"]:
        size = zone["present"]
        share = pages * size // lowmem
        lowest = sorted((32, size // 1024, 128))[1] if highmem(zone["name"]) else share
        if base < (2, 6, 10):
            low, high = lowest * 2, lowest * 3
        elif base < (2, 6, 18):
            low, high = lowest * 5 // 4, lowest * 6 // 4
        elif base < (4, 6, 0):
            low, high = lowest + share // 4, lowest + share // 2
        else:
            step = max(share // 4, size * factor // 10_000)
            low, high = lowest + step, lowest + 2 * step
        found.append((lowest, low, high))
    return found
