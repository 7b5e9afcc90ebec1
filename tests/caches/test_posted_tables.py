"""Tables of /proc/slabinfo as they are posted: behind a log's stamps, in colours, in markup, in mails."""

import pytest

from fastalloc.errors import InputError
from fastalloc.explain.caches.answer import answer, as_text, read_table
from fastalloc.explain.caches.setting import setting
from fastalloc.linux.slabinfo import SlabRow

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


def test_a_table_whose_title_ends_with_the_pages_of_a_slab(tmp_path):
    path = tmp_path / "cut.txt"
    path.write_text(
        ">   slabinfo - version: 2.1\n>   # name            <active_objs> <num_objs> <objsize> <objperslab>\n"
        "> <pagesperslab>\n>   kmalloc-8192         260    268   8192    4    8\n>   kmalloc-1024 2505 2976 1024 32 8\n"
    )
    rows = read_table(path)
    assert rows[0] == SlabRow("kmalloc-8192", 268, 8192, 4, 8, 0, 260, 67, cut=True)
    text = as_text(answer(setting("4.19", cpus=8), [], rows, [], (False, False)))
    assert "without the columns behind <pagesperslab> the table is taken for one of SLUB" in text
    assert "2 of 2 rows agree" in text


@pytest.mark.parametrize("above", [[TITLE], ["slabinfo - version: 2.1", ROWS[0]]])
def test_a_row_of_a_whole_table_that_ends_there_is_cut_off(tmp_path, above):
    with pytest.raises(InputError, match="cut off"):
        names(tmp_path, "\n".join([*above, ROWS[1].partition(" :")[0]]))


def test_a_row_wrapped_behind_the_pages_of_a_slab_is_whole(tmp_path):
    path = tmp_path / "wrapped.txt"
    path.write_text("slabinfo - version: 2.1\n" + "\n".join(row.replace(" : tun", "\n: tun") for row in ROWS[:2]))
    assert [(row.name, row.slabs, row.cut) for row in read_table(path)] == [
        ("dentry", 24, False),
        ("dma-kmalloc-512", 24, False),
    ]
