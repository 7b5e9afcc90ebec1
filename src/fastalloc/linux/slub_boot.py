"""What a kernel command line means to SLUB, read left to right as the kernel does [mm/slub.c: setup_slub_*]."""

import re
from dataclasses import dataclass

from fastalloc.linux import slab_flags as sf
from fastalloc.linux.slub_eras import MAX_ORDER, DebugBlock, SlubEra, SlubOptions, layout_of

DEBUG_DEFAULT_FLAGS = sf.DEBUG_FREE | sf.RED_ZONE | sf.POISON | sf.STORE_USER
_LETTERS = {"f": sf.DEBUG_FREE, "z": sf.RED_ZONE, "p": sf.POISON, "u": sf.STORE_USER, "t": sf.TRACE, "a": sf.FAILSLAB}
_NUMBERS = ("min_order", "max_order", "min_objects")


@dataclass(frozen=True)
class BootLine:
    """What was read: the options, and the words that this kernel does not take or takes otherwise than they look."""

    options: SlubOptions
    unknown: tuple[str, ...] = ()


def parse_boot_options(line: str, era: str, **machine: object) -> SlubOptions:
    """The options that a kernel command line gives a kernel ``era``; ``machine`` as for :class:`SlubOptions`."""
    return read_boot_line(line, era, **machine).options


def read_boot_line(line: str, era: str, **machine: object) -> BootLine:
    """As :func:`parse_boot_options`, with what this kernel passes over.

    From 6.8 a ``slub_min_order`` above the maximum raises it and a ``slub_max_order`` below the minimum lowers that.
    A value that is no number is 0 to get_option; from 6.19 kstrtouint refuses it and the option stands as it was.
    """
    rules = layout_of(era)
    plain = SlubOptions(era=era, **machine)  # type: ignore[arg-type]
    values: dict[str, int] = {"min_order": 0, "max_order": plain.max_order, "min_objects": 0}
    debug: tuple[int, tuple[DebugBlock, ...], bool] = (0, (), False)
    nomerge, unknown = False, []
    for word in line.split():
        name, _, value = word.partition("=")
        if name[:5] not in ("slub_", "slab_"):
            continue
        option = name[5:]
        if not _takes(name, rules):
            unknown.append(
                f"{word}: no option of {era}; it is {_other_name(name)} there" if _other_name(name) else word
            )
        elif option in _NUMBERS and "=" in word:
            number = _number(value, rules)
            if number is None:
                unknown.append(f"{word}: no number, refused by {era}")
                continue
            if not re.match(r"-?\d", value):
                unknown.append(f"{word}: no number, which {era} takes for 0")
            values[option] = min(number, MAX_ORDER - 1) if option == "max_order" and era != "2.6.25" else number
            if rules.min_order_yields and option == "min_order":
                values["max_order"] = max(values["max_order"], values["min_order"])
            elif rules.min_order_yields and option == "max_order":
                values["min_order"] = min(values["min_order"], values["max_order"])
        elif option == "nomerge":
            nomerge = True
        elif option == "debug":
            debug = _debug(word[len(name) :], rules)
    options = SlubOptions(
        era=era, slub_min_order=values["min_order"], slub_max_order=values["max_order"],
        slub_min_objects=values["min_objects"] or None, slub_nomerge=nomerge, slub_debug=debug[0],
        debug_blocks=debug[1], debug_order=debug[2], **machine,  # type: ignore[arg-type]
    )  # fmt: skip
    return BootLine(options, tuple(unknown))


def _takes(name: str, rules: SlubEra) -> bool:
    """Whether a kernel has a boot option of the name."""
    if name == "slab_nomerge":
        return rules.slab_nomerge
    if name.startswith("slab_"):
        return rules.slab_names and name[5:] in (*_NUMBERS, "debug", "merge", "strict_numa")
    return name[5:] in (*_NUMBERS, "debug", "nomerge", "merge")


def _other_name(name: str) -> str:
    return f"slub_{name[5:]}" if name.startswith("slab_") and name[5:] in (*_NUMBERS, "debug", "nomerge") else ""


def _number(value: str, rules: SlubEra) -> int | None:
    """What get_option or kstrtouint makes of a value; None where it is refused."""
    pattern = r"(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9]\d*)"
    if rules.strict_numbers:
        whole = re.fullmatch(r"\+?" + pattern, value)
        return _base_0(whole[1]) if whole else None
    begin = re.match(r"(-?)" + pattern, value)
    if begin is None:
        return 0
    number = _base_0(begin[2])
    return (1 << 32) - number if begin[1] and number else number  # an unsigned int


def _base_0(digits: str) -> int:
    if digits[:2] in ("0x", "0X"):
        return int(digits, 16)
    return int(digits, 8) if digits[0] == "0" else int(digits)


def _debug(text: str, rules: SlubEra) -> tuple[int, tuple[DebugBlock, ...], bool]:
    """(flags of all caches, flags of named ones, O) of what follows ``slub_debug`` [setup_slub_debug]."""
    if not text.startswith("=") or text == "=":
        return DEBUG_DEFAULT_FLAGS, (), False
    if rules.debug_order == "alone" and text[1] in "oO":
        return DEBUG_DEFAULT_FLAGS, (), True
    everywhere, blocks, order = 0, [], False
    for block in text[1:].split(";") if rules.debug_list == "blocks" else [text[1:]]:
        if not block:
            continue
        letters, comma, names = block.partition(",")
        flags = DEBUG_DEFAULT_FLAGS if comma and not letters else 0
        for letter in letters.lower():
            if letter == "-":
                flags = 0
                if rules.debug_list != "blocks":
                    break
            elif letter == "o" and rules.debug_order == "letter":
                order = True
            elif letter != "a" or rules.never_merge & sf.FAILSLAB:
                flags |= _LETTERS.get(letter, 0)
        if comma:
            blocks.append(DebugBlock(flags, tuple(names.split(",")) if rules.debug_list != "prefix" else (names,)))
        else:
            everywhere = flags
    return everywhere, tuple(blocks), order
