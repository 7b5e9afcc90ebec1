"""What ``fastalloc policy new`` writes: a policy that runs as it is and leaves all to the kernel."""

from fastalloc.own.questions import QUESTIONS, RECORDS

_HEAD = '''"""What my patch does, in a sentence.

Run it beside the kernel's own:  fastalloc compare swap-livelock --policies {name}.py
Look for faults, and what it costs:  fastalloc policy check {name}.py ; fastalloc policy time {name}.py
Under recorded traces:  fastalloc replay TRACE --what-if policy={name}.py

A function below answers a question that kernels ask. It takes what it needs of the arguments named above it, and
returns a whole number; KERNEL leaves the answer to the kernel. A question without a function is never asked.
Compiled are whole numbers of 64 bits, if, for over a range, while, and calls of other functions of this file.
"""

from fastalloc.own import KERNEL, TO_HEAD, TO_NODE, TO_SLAB, parameter

# Words of state, 0 at boot, read and written as state.cache.taken; a new slab's begin at 0.
STATE = {{"cpu": ["answers"]}}  # of a "lane", "cpu", "cache" or "slab"

# Set with --set policy.kept=7, varied as the axis policy.kept of a sweep.
kept = parameter("kept", 5, 0, 100, "partial slabs below which an empty one stays")

# What is told:
{records}


def keep(cache, state):  # {keep}
    """An emptied slab."""
    state.cpu.answers += 1
    return kept if cache.objects < 0 else KERNEL
'''


def template(name: str) -> str:
    """The text for a file ``name``.py."""
    fields = [f"#   {record}: {', '.join(names)}" for record, names in RECORDS.items()]
    records = ["#   who (a number of WHO), gfp, context (PF_MEMALLOC, interrupt), cpu, now (ms)", *fields]
    parts = [_HEAD.format(name=name, records="\n".join(records), keep=_line("keep"))]
    for question, each in QUESTIONS.items():
        if question == "keep":
            continue
        answer = "True" if question == "merge" else "KERNEL"
        parts.append(
            f"\n\n# {question}: {each.asks}\n#   asked by {', '.join(each.allocators)}\n"
            f"# def {question}({', '.join(each.arguments)}):\n#     return {answer}\n"
        )
    return "".join(parts)


def _line(question: str) -> str:
    return ", ".join(QUESTIONS[question].arguments)
