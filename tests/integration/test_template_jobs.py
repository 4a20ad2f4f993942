"""Templates from submission to provenance: by name from Python and the command line, compiled before any job."""

import pytest
from cli_kit import BELL, ROTATED, invoke, said, told
from embedded_kit import Broker, eventually

from shotbus import Client
from shotbus.broker.config_loader import load_config
from shotbus.schemas.errors import ShotbusError

CONFIG = """
[broker]
url = "sqlite:///{folder}/data"
[templates]
"bell@1" = "circuits/bell.qasm"
"ansatz@2" = "circuits/rotated.qasm"
"bare@1" = "circuits/bare.qasm"
"wide@1" = "circuits/wide.qasm"
"""
BARE = BELL.replace("c = measure q;\n", "").replace("bit[2] c;\n", "")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("templates")
    (folder / "circuits").mkdir()
    texts = {"bell": BELL, "rotated": ROTATED, "bare": BARE, "wide": BELL.replace("[2]", "[40]")}
    for name, text in texts.items():
        (folder / "circuits" / f"{name}.qasm").write_text(text)
    (folder / "shotbus.toml").write_text(CONFIG.format(folder=folder))
    return folder


@pytest.fixture(scope="module")
def broker(folder):
    # It runs in its data directory and takes the configuration that is there.
    (folder / "data").mkdir()
    text = CONFIG.format(folder=folder).replace('"circuits/', '"../circuits/')
    (folder / "data" / "shotbus.toml").write_text(text)
    with Broker(folder / "data", "aer", environ={"SHOTBUS__POOLS__AER__SLOTS": "1"}) as running:
        yield running


@pytest.fixture(scope="module")
def client(folder, broker):
    with Client(broker.url, config=load_config(folder / "shotbus.toml").config) as client:
        yield client


def compiled_from(result):
    (facts,) = result.provenance["circuits"].values()
    return facts["compiled"]


def kept(folder):
    return len(list((folder / "data" / "compiled").rglob("*.qpy")))


def test_the_pool_compiles_templates_at_its_start_and_jobs_find_them(folder, broker, client):
    eventually(lambda: kept(folder) == 3, seconds=90)
    assert any(line.get("template") == "wide@1" for line in broker.lines())
    sampled = client.submit("ansatz@2", {"a": 0.1, "b": 0.2}, shots=10).result(60)
    estimated = client.submit("bare@1", observables=[[("XX", 1.0)]]).result(60)
    assert {compiled_from(sampled), compiled_from(estimated)} <= {"memory", "disk"}


def test_provenance_names_the_template_and_its_circuit(client):
    job = client.submit("ansatz@2", {"a": 0.1, "b": 0.2}, shots=10)
    provenance = job.result(60).provenance
    (circuit_id,) = provenance["circuits"]
    assert provenance["templates"] == {"ansatz@2": circuit_id}
    plain = client.submit(ROTATED, {"a": 0.1, "b": 0.2}, shots=10).result(60)
    assert "templates" not in plain.provenance


def test_sweeps_of_a_template_name_it_in_every_shard(client):
    sweep = client.sweep("ansatz@2", {"a": [0.1, 0.2, 0.3], "b": [0.0, 0.0, 0.0]}, shots=10, chunk=2)
    found = list(sweep)
    assert len(found) == 2
    assert all(list(one.provenance["templates"]) == ["ansatz@2"] for one in found)


def test_a_name_that_means_another_text_already_is_refused_and_nothing_is_submitted(folder, broker, client):
    client.submit("bell@1", shots=10).result(60)
    other = folder / "other"
    (other / "circuits").mkdir(parents=True)
    (other / "circuits" / "bell.qasm").write_text(BELL.replace("h q[0]", "x q[0]"))
    (other / "shotbus.toml").write_text((folder / "shotbus.toml").read_text())
    code, out, err = invoke(other, "submit", "--circuit", "bell@1", "--shots", 10)
    assert (code, out) == (2, "")
    assert "SB-1223" in err
    assert "new version" in err


def test_the_command_line_takes_templates_by_option_and_in_request_files(folder, broker):
    found = told(folder, "submit", "--circuit", "bell@1", "--shots", 10, "--wait")
    assert sum(found["counts"][0].values()) == 10
    (folder / "request.toml").write_text('circuit = "bell@1"\nshots = 12\n')
    found = told(folder, "submit", "request.toml", "--wait")
    assert sum(found["counts"][0].values()) == 12
    assert told(folder, "policy", "explain", "request.toml")["circuit"]["qubits"] == 2
    assert "hit" in said(folder, "compile", "request.toml", "--pool", "aer")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("submit",), "SB-2002"),
        (("submit", "circuits/bell.qasm", "--circuit", "bell@1"), "SB-2002"),
        (("submit", "--circuit", "bell.qasm"), "SB-2002"),
        (("submit", "--circuit", "bell@7"), "SB-1222"),
        (("compile", "--pool", "aer"), "SB-2002"),
    ],
)
def test_what_names_no_template_is_refused(folder, words, code):
    (problem, *_) = told(folder, *words, code=2)["errors"]
    assert problem["code"] == code


def test_what_is_wrong_beside_an_unknown_template_is_told_with_it(client):
    with pytest.raises(ShotbusError) as error:
        client.submit("ansatz@3", {"a": "x"}, shots=-1, priority="nobody")
    assert {problem.code for problem in error.value.problems} == {"SB-1222", "SB-1304", "SB-1103", "SB-1101"}


def test_compile_takes_names_and_all_of_them(folder, tmp_path):
    data = ("--pool", "aer", "--data", tmp_path / "alone")
    found = told(folder, "compile", "bell@1", "circuits/rotated.qasm", *data)
    assert [(one["file"], one["compiled"]) for one in found] == [
        ("bell@1", "anew"),
        ("circuits/rotated.qasm", "anew"),
    ]
    found = told(folder, "compile", "--all", *data, code=1)
    assert [(one["file"], one["compiled"], one["mode"]) for one in found] == [
        ("bell@1", "disk", "sample"),
        ("ansatz@2", "disk", "sample"),
        ("bare@1", "anew", "estimate"),
        ("wide@1", None, ""),
    ]
    assert found[-1]["problems"][0]["code"] == "SB-1116"
