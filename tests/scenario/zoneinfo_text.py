"""A machine's zones as /proc/zoneinfo shows them, for tests that read them back."""

from fastalloc.scenario.machine import Machine


def write_zoneinfo(machine: Machine) -> str:
    """The zones of a machine as a kernel's /proc/zoneinfo would show them; ``read_zoneinfo`` reads them back."""
    lines = []
    for zone in machine.zones:
        lines += [
            f"Node {zone.node}, zone {zone.name:>8}",
            f"  pages free     {machine.free_pages.get(zone.name, zone.present)}",
            f"        min      {zone.min}",
            f"        low      {zone.low}",
            f"        high     {zone.high}",
            f"        spanned  {zone.present}",
            f"        present  {zone.present}",
            f"        managed  {zone.present}",
            f"        cma      {zone.cma}",
            f"        protection: ({', '.join(map(str, zone.protection))})",
            "  pagesets",
        ]
        for cpu in range(machine.cpus):
            lines += [
                f"    cpu: {cpu}",
                "              count:    0",
                f"              high:     {zone.pcp_high}",
                f"              batch:    {zone.pcp_batch}",
            ]
        lines.append(f"  reserved_highatomic: {zone.highatomic}")
    return "\n".join(lines) + "\n"
