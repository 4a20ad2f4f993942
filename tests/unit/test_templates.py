"""Circuit templates: names, files, and one meaning a bus whoever claims a name first."""

import asyncio
from dataclasses import replace

import pytest

from shotbus.broker.bus.base import Outgoing
from shotbus.broker.bus.memory import MemoryBus, MemoryCluster
from shotbus.broker.config import Config
from shotbus.broker.config_loader import as_toml, load_config
from shotbus.broker.config_rules import check_config
from shotbus.broker.topics import Topics
from shotbus.producers.program import program_of
from shotbus.producers.templates import TemplateRegister, is_template, resolved
from shotbus.schemas.errors import ShotbusError

BELL = 'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[2] q;\nbit[2] c;\nh q[0];\ncx q[0], q[1];\nc = measure q;\n'
OTHER = BELL.replace("h q[0]", "x q[0]")
TOPICS = Topics()


def named(text, name="bell@1"):
    return replace(program_of(text), template=name)


@pytest.mark.parametrize(
    ("circuit", "expected"),
    [("bell@1", True), ("a.b_c-d@2.1-rc", True), ("bell", False), ("@1", False), ("bell@", False)]
    + [(BELL, False), ("a b@1", False), ("a@1@2", False), ("a" * 65 + "@1", False), (7, False)],
)
def test_only_a_name_with_a_version_is_a_template(circuit, expected):
    assert is_template(circuit) is expected


def test_a_template_is_its_file_s_text_and_anything_else_what_it_was(tmp_path):
    (tmp_path / "bell.qasm").write_text(BELL)
    program = resolved("bell@1", {"bell@1": str(tmp_path / "bell.qasm")})
    assert (program.text, program.template) == (BELL, "bell@1")
    assert program.circuit_id == program_of(BELL).circuit_id
    assert resolved(BELL, {}) == BELL


@pytest.mark.parametrize(
    ("name", "code", "path"),
    [
        ("bel@1", "SB-1222", "$.circuit"),
        ("gone@1", "SB-2003", "$.templates.gone@1"),
        ("bad@1", "SB-1208", "3:1"),
    ],
)
def test_what_cannot_be_had_is_refused_with_its_place(tmp_path, name, code, path):
    (tmp_path / "bad.qasm").write_text("OPENQASM 3.0;\nqubit q;\nbroken q;\n")
    files = {"bell@1": "x", "gone@1": str(tmp_path / "no"), "bad@1": str(tmp_path / "bad.qasm")}
    with pytest.raises(ShotbusError) as error:
        resolved(name, files)
    (problem,) = error.value.problems
    assert problem.code == code
    assert problem.path.endswith(path)
    if code == "SB-1222":
        assert "bell@1" in problem.hint


def test_files_are_relative_to_the_configuration_that_names_them(tmp_path):
    path = tmp_path / "shotbus.toml"
    path.write_text('[templates]\n"bell@1" = "circuits/bell.qasm"\n"far@1" = "/elsewhere/far.qasm"\n')
    config = load_config(path, {}).config
    assert config.templates == {
        "bell@1": str(tmp_path / "circuits/bell.qasm"),
        "far@1": "/elsewhere/far.qasm",
    }
    again = tmp_path / "again"
    again.mkdir()
    (again / "copy.toml").write_text(as_toml(config))
    assert load_config(again / "copy.toml", {}).config.templates == config.templates


def test_names_without_a_version_and_empty_files_are_refused_together():
    found = check_config(replace(Config(), templates={"bell": "x", "good@1": "", "a b@1": "y"}))
    assert [problem.path for problem in found] == [
        "$.templates.bell",
        "$.templates.good@1",
        "$.templates.a b@1",
    ]


@pytest.fixture
async def cluster():
    cluster = MemoryCluster()
    bus = MemoryBus(cluster)
    await bus.start()
    await bus.create_topics(TOPICS.specs(["noop"]))
    yield cluster
    await bus.close()


async def register(cluster):
    bus = MemoryBus(cluster)
    await bus.start()
    return TemplateRegister(bus, TOPICS)


async def refused(claiming, program):
    with pytest.raises(ShotbusError) as error:
        await claiming.claim(program)
    (problem,) = error.value.problems
    assert problem.code == "SB-1223"
    return problem.limit


async def test_a_name_means_one_circuit_for_every_client_of_a_bus(cluster):
    first, second = await register(cluster), await register(cluster)
    await first.claim(named(BELL))
    await second.claim(named(BELL))
    assert await refused(second, named(OTHER)) == program_of(BELL).circuit_id
    assert await refused(await register(cluster), named(OTHER)) == program_of(BELL).circuit_id
    await second.claim(named(OTHER, "bell@2"))
    await first.claim(named(OTHER, "bell@2"))


async def test_of_many_that_claim_a_name_at_once_one_wins_and_all_agree_which(cluster):
    texts = [BELL.replace("h q[0]", f"rx({k}) q[0]") for k in range(1, 9)]
    registers = [await register(cluster) for _ in texts]
    claims = [one.claim(named(text)) for one, text in zip(registers, texts, strict=True)]
    ended = await asyncio.gather(*claims, return_exceptions=True)
    winners = [text for text, error in zip(texts, ended, strict=True) if error is None]
    assert len(winners) == 1
    limits = {error.problems[0].limit for error in ended if error is not None}
    assert limits == {program_of(winners[0]).circuit_id}


async def test_records_that_say_nothing_claim_nothing(cluster):
    bus = MemoryBus(cluster)
    await bus.start()
    await bus.publish([Outgoing(TOPICS.name("templates"), 0, b"bell@1", b"no record")])
    await (await register(cluster)).claim(named(BELL))
    assert await refused(await register(cluster), named(OTHER))
