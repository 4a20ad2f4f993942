"""The policy's configuration: every mistake at once with its path and the nearest name; the page lists every key."""

import dataclasses
import json
import pathlib
import re

import pytest

from shotbus.broker.config_loader import as_toml, load_config
from shotbus.broker.policy.config import (
    PrescreenConfig,
    QualityConfig,
    RuleConfig,
    Share,
    ShareConfig,
    Span,
    ThenConfig,
    WhenConfig,
    WhereConfig,
)
from shotbus.schemas.errors import ShotbusError

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "routing.md"
WRONG = """
[routing]
min_history = 0
[[routing.rules]]
name = "a"
flag = "nwe"
when = { classes = ["bluk"], qubit = "1..2", depth = "5..1", window = "nihgt", families = ["uccsd@3"] }
where = { price = "cheap" }
then = { pools = ["aerr"], choose = "best", fallback = ["cache:x", "defer:x", "clasical"], require = ["luck"] }
[[routing.rules]]
name = "a"
then = { shadow = { percent = 5 }, canary = { pool = "aer", percent = 500, key = "moon" }, explore = 101 }
[windows.night]
cron = "0 25 * * *"
[families.uccsd]
versions = ["1", "2"]
connectivity = "star"
[flags]
new = 101
[pools.aer.access]
reservations = ["acme"]
hours = "night"
[pools.aer.device]
connectivity = ["0-0", "0-99", "x"]
fidelity = 2
"""


def load(tmp_path, text):
    path = tmp_path / "shotbus.toml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, {}).config


def mistakes(tmp_path, text):
    with pytest.raises(ShotbusError) as caught:
        load(tmp_path, text)
    return caught.value.problems


def test_every_mistake_of_a_file_is_told_at_once(tmp_path):
    paths = [
        problem.path
        for problem in mistakes(tmp_path, WRONG.replace("reservations", "#").replace("conn", "#"))
    ]
    rules = "$.routing.rules[0]"
    assert {
        *(f"{rules}.flag", f"{rules}.when.classes", f"{rules}.when.qubit", f"{rules}.when.depth"),
        *(f"{rules}.when.window", f"{rules}.when.families", f"{rules}.where.price", f"{rules}.then.pools"),
        *(f"{rules}.then.choose", f"{rules}.then.fallback", f"{rules}.then.require"),
        *("$.windows.night", "$.flags.new", "$.routing.min_history", "$.pools.aer.device.fidelity"),
    } <= set(paths)


@pytest.mark.parametrize(
    ("text", "path", "told"),
    [
        (
            '[[routing.rules]]\nname = "a"\nthen.pools = ["aerr"]',
            "$.routing.rules[0].then.pools",
            "did you mean 'aer'?",
        ),
        (
            '[[routing.rules]]\nname = "a"\n[[routing.rules]]\nname = "a"',
            "$.routing.rules[1].name",
            "same name",
        ),
        ('[[routing.rules]]\nname = "a:b"', "$.routing.rules[0].name", "a:b"),
        ("[routing]\nrules = 5", "$.routing.rules", "a list of tables"),
        ("[flags]\nx = 101", "$.flags.x", "percentage"),
        ('[families.f]\nqubits = "9..1"', "$.families.f.qubits", "a range such as"),
        ('[families.f]\nversions = ["1", "1"]', "$.families.f.versions", "each version once"),
        ('[pools.aer.access]\nreservations = ["acme"]', "$.pools.aer.access.reservations", "TENANT@WINDOW"),
        ('[pools.aer.device]\nconnectivity = ["0-99"]', "$.pools.aer.device.connectivity", "0-99"),
        (
            '[[routing.rules]]\nname = "a"\nthen.prescreen.pool = "aer"',
            "$.routing.rules[0].then.prescreen",
            "keep",
        ),
        (
            '[[routing.rules]]\nname = "a"\nthen.canary = { pool = "aer", key = "x" }',
            "$.routing.rules[0].then.canary.key",
            "job",
        ),
        (
            '[[routing.rules]]\nname = "a"\nthen.max_queue_seconds = 0',
            "$.routing.rules[0].then.max_queue_seconds",
            "0",
        ),
        ('[windows.w]\ncron = "0 25 * * *"', "$.windows.w", "hour"),
    ],
)
def test_a_mistake_is_told_where_it_stands(tmp_path, text, path, told):
    (problem,) = mistakes(tmp_path, text)
    assert problem.path == path
    assert told in str(problem)


def test_rules_survive_being_written_as_a_file(tmp_path):
    text = """
[[routing.rules]]
name = 'a "b"'
when = { qubits = "..5", tags = ["x"] }
then = { canary = { pool = "noop", percent = 5 }, fallback = ["cache:60"] }
[[routing.rules]]
name = "c"
[windows.night]
minutes = 5
[flags]
x = true
y = 2.5
"""
    config = load(tmp_path, text)
    assert (config.flags, len(config.routing.rules)) == ({"x": 100.0, "y": 2.5}, 2)
    assert load(tmp_path, as_toml(config)) == config


@pytest.mark.parametrize("text", ["x", "1..x", "5..1", "nan", "nan..", "1..2..3"])
def test_what_is_no_range_is_refused(text):
    with pytest.raises(ValueError):
        Span(text)


def test_a_share_takes_words_and_percentages():
    assert [Share(value) for value in (True, "false", "12.5", 0)] == [100.0, 0.0, 12.5, 0.0]


def test_the_page_lists_every_key_of_a_rule_with_its_default_and_nothing_else():
    text = PAGE.read_text(encoding="utf-8")
    sections = re.split(r"^### `(.+)`$", text, flags=re.MULTILINE)[1:]
    told = {
        f"{section}.{key}": default
        for section, body in zip(sections[::2], sections[1::2], strict=True)
        for key, default in re.findall(r"^\| `(\w+)` \| `(.*?)` \| .{4,} \|$", body, re.MULTILINE)
    }
    shapes = {
        "rule": RuleConfig,
        "when": WhenConfig,
        "where": WhereConfig,
        "then": ThenConfig,
        "then.quality": QualityConfig,
        "then.prescreen": PrescreenConfig,
        "then.shadow and then.canary": ShareConfig,
    }
    assert told == {
        f"{section}.{key.name}": json.dumps(getattr(shape(), key.name))
        for section, shape in shapes.items()
        for key in dataclasses.fields(shape)
        if not dataclasses.is_dataclass(getattr(shape(), key.name))
    }
