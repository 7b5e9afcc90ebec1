"""The replay kernel against independent C and against itself interpreted: every counter, list, page and place equal."""

import shutil

import pytest
from benchmarks.suite import NAMES, module
from benchmarks.tables import replaced
from benchmarks.twin import KernelRun, TwinRun
from benchmarks.works import ERAS, SYNTHETIC, recorded, synthetic

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


def pair(work):
    kernel, twin = KernelRun(work), TwinRun(work)
    kernel.run()
    twin.run()
    return kernel.outcome(), twin.outcome()


@needs_compiler
@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("name", SYNTHETIC)
def test_kernel_and_twin_agree(name, era):
    kernel, twin = pair(synthetic(name, era, 30_000, seed=7))
    assert kernel.same_as(twin)
    assert kernel.met[0] > 10_000
    if name == "tight":
        assert kernel.zone[0, 2] > 0  # pages were refused


@needs_compiler
@pytest.mark.parametrize("era", ERAS)
def test_kernel_and_twin_agree_on_a_recording(era):
    kernel, twin = pair(recorded("d_stack_k612", era))
    assert kernel.same_as(twin)


@needs_compiler
def test_a_twin_of_other_rules_is_noticed():
    one, other = (KernelRun(synthetic("remote", era, 5_000)) for era in ERAS[:2])
    one.run()
    other.run()
    assert not one.outcome().same_as(other.outcome())


def test_interpreted_kernels_come_to_the_same():
    from benchmarks.peers import interpreted

    ready = KernelRun(synthetic("random", "cpu-partial", 20_000))
    ready.run()
    assert interpreted("random", "cpu-partial")[1].same_as(ready.outcome())


def test_every_benchmark_states_its_question():
    for name in NAMES:
        assert module(name).QUESTION.endswith("?")


def test_tables_replace_only_what_stands_between_their_markers():
    text = "a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n"
    assert replaced(text, "x", "new\n") == "a\n<!-- x: begin -->\nnew\n<!-- x: end -->\nb\n"
    assert replaced(text, "y", "new\n") == text
