"""What benchmarks/instructions.py reads of callgrind, what it compares, and what it says of wrong options."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
VERSIONS = {"python": "3.11.7", "uvicorn": "0.40", "websockets": "15"}

# A call from one function to another, which recurs; a name is written once; a function without a symbol.
CALLGRIND = """\
# callgrind format
version: 1
positions: line
events: Ir
summary: 175

ob=(1) /lib/libpython.so
fl=(1) ceval.c
fn=(1) evaluate
0 100
cob=(2) /lib/parser.so
cfi=(2) ???
cfn=(2) 0x00000000000010a0
calls=2 0
0 40
fe=(3) inlined.h
+3 20

ob=(1)
fl=(1)
fn=(3) evaluate'2
* 15

ob=(2)
fl=(2)
fn=(2)
0 40
0
"""


def module(name):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    found = sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up
    spec.loader.exec_module(found)
    return found


callgrind, compare = module("_instructions_callgrind"), module("_instructions_compare")


def result(case="keep-alive", versions=VERSIONS, **servers):
    """Of one case: a server's instructions, or those of its worker and its dispatcher."""
    rows = {
        name: {
            role: {"instructions": count} for role, count in zip(("worker", "dispatcher"), counts, strict=False)
        }
        for name, counts in servers.items()
    }
    return {"versions": versions, "results": {case: rows}}


def test_a_function_has_its_own_instructions_and_not_those_of_its_callees():
    assert callgrind.functions(CALLGRIND) == {"evaluate": 135, "parser.so:0x00000000000010a0": 40}


@pytest.mark.parametrize(("now", "risen"), [((105_000,), False), ((105_100,), True), ((60_000, 46_000), True)])
def test_a_figure_of_all_processes_has_risen_when_it_is_more_than_5_percent_above(now, risen):
    (one,) = compare.compared(result(fdpass=(100_000,)), result(fdpass=now))
    assert one.risen is risen


def test_uvicorn_and_what_only_one_result_has_are_not_compared():
    before, here = result(uvicorn=(1,), fdpass=(2,)), result(uvicorn=(9,))
    assert not list(compare.compared(before, here))
    assert not list(compare.compared(before, result("browser", fdpass=(9,))))


def test_ratios_are_those_to_uvicorn_in_the_same_result():
    before, here = result(fdpass=(120,), uvicorn=(100,)), result(fdpass=(260,), uvicorn=(200,))
    (one,) = compare.compared(before, here, by_ratio=True)
    assert (one.before, one.now, one.risen) == (1.2, 1.3, True)
    assert not list(compare.compared(before, result(fdpass=(260,)), by_ratio=True))


def test_versions_differ_only_for_the_cases_that_depend_on_them():
    here = result(versions={**VERSIONS, "websockets": "16"})
    assert not compare.differences(result(), here, ["keep-alive"])
    assert compare.differences(result(), here, ["websocket"]) == ["websockets 15 there, 16 here"]
    here = result(versions={**VERSIONS, "python": "3.12.1"})
    assert compare.differences(result(), here, ["keep-alive"]) == ["python 3.11.7 there, 3.12.1 here"]


def test_the_functions_that_grew_come_with_the_largest_growth_first():
    """A function that the record left out cost no more than the cheapest that it has."""
    before, here = result(fdpass=(100,)), result(fdpass=(200,))
    (one,) = compare.compared(before, here)
    before["results"]["keep-alive"]["fdpass"]["worker"]["functions"] = {"eval": 50, "parse": 20, "free": 30}
    here["results"]["keep-alive"]["fdpass"]["worker"]["functions"] = {
        "new": 60,
        "eval": 80,
        "parse": 10,
        "free": 30,
    }
    assert list(compare.grown(before, here, one, "functions")) == [
        ("worker", "new", 20, 60),
        ("worker", "eval", 50, 80),
    ]


def run(*words, **environment):
    command = [sys.executable, BENCHMARKS / "instructions.py", *words]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)


def test_help_names_the_cases_and_the_servers():
    told = run("--help").stdout
    assert "WebSocket message and its echo" in told
    assert "fdpass-custody-off" in told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--cases", "keep-alive,x"), "no such cases: x; there are keep-alive, browser"),
        (("--servers", "nginx"), "no such servers: nginx; there are fdpass, "),
        (("--requests", "0"), "a whole number above 0 is needed, not '0'"),
        (("--ratios",), "--ratios goes with --compare"),
        (("--json", "/nowhere/new"), "/nowhere/new: its folder does not exist"),
        (("--compare", "/dev/null"), "/dev/null is not what --json wrote"),
        (("--compare", "/nowhere"), "No such file or directory: '/nowhere'"),
    ],
)
def test_a_wrong_option_is_explained(words, said):
    done = run(*words)
    assert done.returncode == 2
    assert said in done.stderr


def test_without_valgrind_the_remedy_is_named():
    done = run(PATH="/nowhere")
    assert done.returncode == 1
    assert done.stderr == (
        "The program valgrind, which counts the instructions, is not installed: apt-get install valgrind\n"
    )
