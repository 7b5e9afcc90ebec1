"""Tables of /proc/slabinfo as they are posted: behind a log's stamps, in colours, in markup, in mails."""

import pytest

from fastalloc.explain.caches.answer import read_table

TITLE = "# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables <limit>"
ROWS = [
    f"{name:<17} 1000   1000 {size:>6} {objects:>4} {pages:>4} : tunables    0    0    0 : slabdata 24 24 0"
    for name, size, objects, pages in (
        ("dentry", 192, 21, 1), ("dma-kmalloc-512", 512, 8, 1), ("kmalloc-128", 160, 25, 1), ("kmalloc-64", 96, 42, 1),
    )
]  # fmt: skip
TABLE = ["slabinfo - version: 2.1", TITLE, *ROWS]


def names(tmp_path, text):
    path = tmp_path / "posted.txt"
    path.write_text(text)
    return [row.name for row in read_table(path)]


@pytest.mark.parametrize(
    "line",
    ["{}", "Jan 12 04:05:06 host snap[1]: {}", "[   12.345678] {}", "2026-01-12T04:05:06.1+00:00 host {}", "> {}",
     "slab.txt:{}", "\x1b[32m{}\x1b[0m"],
)  # fmt: skip
@pytest.mark.parametrize("lines", [TABLE, ROWS[2:]])
def test_what_stands_before_each_line_is_no_part_of_a_name(tmp_path, line, lines):
    text = "".join(line.format(row) + "\n" for row in lines)
    assert names(tmp_path, text) == [row.split()[0] for row in lines if "slabdata" in row]


def test_numbered_lines_markup_and_strings_of_a_program(tmp_path):
    wanted = [row.split()[0] for row in ROWS]
    assert names(tmp_path, "".join(f"{n:6}\t{row}\n" for n, row in enumerate(TABLE, 1))) == wanted
    assert names(tmp_path, "<br>\n".join(TABLE).replace(" ", "&nbsp;")) == wanted
    assert names(tmp_path, '{"slabinfo": "' + "\\n".join(TABLE) + '\\n"}') == wanted


def test_the_begin_of_a_name_that_most_rows_share_stays(tmp_path):
    rows = [ROWS[1], ROWS[1].replace("512 ", "256 ", 1), ROWS[1].replace("512 ", "128 ", 1)]
    assert names(tmp_path, "\n".join(rows)) == ["dma-kmalloc-512", "dma-kmalloc-256", "dma-kmalloc-128"]


def test_a_title_broken_within_a_word_is_no_cache(tmp_path):
    broken = [*TITLE.split("pages", 1), ROWS[0]]
    assert names(tmp_path, "\n".join(broken)) == ["dentry"]
