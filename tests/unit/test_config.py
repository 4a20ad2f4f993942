"""Configuration: every mistake at once, every value with its origin, and docs that list every key."""

import dataclasses
import json
import pathlib
import re
import typing

import pytest

from shotbus.broker.config import Config, KafkaConfig, PoolConfig, RedisConfig, Secret
from shotbus.broker.config_loader import as_toml, effective, load_config, reveal
from shotbus.broker.connect import parse_url
from shotbus.schemas.errors import ShotbusError

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs" / "configuration.md"


def problems_of(tmp_path, text="", environ=None):
    path = tmp_path / "shotbus.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ShotbusError) as caught:
        load_config(path, environ or {})
    return {problem.path: problem for problem in caught.value.problems}


def loaded(tmp_path, text="", environ=None):
    path = tmp_path / "shotbus.toml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, environ or {})


def test_without_file_and_environment_there_are_only_defaults(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = load_config(environ={})
    assert found.config == Config()
    assert {origin for _, _, origin in effective(found)} == {"default"}


def test_a_file_in_the_working_directory_is_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("shotbus.toml").write_text("[routing]\ndefault = 'noop'\n")
    assert load_config(environ={}).config.routing.default == "noop"


def test_the_environment_goes_over_the_file_and_both_are_named(tmp_path):
    found = loaded(tmp_path, "[limits]\nmax_shots = 5\nmax_tags = 6\n", {"SHOTBUS__LIMITS__MAX_SHOTS": "7"})
    assert (found.config.limits.max_shots, found.config.limits.max_tags) == (7, 6)
    origins = {key: origin for key, _, origin in effective(found)}
    assert origins["limits.max_shots"] == "SHOTBUS__LIMITS__MAX_SHOTS"
    assert origins["limits.max_tags"].endswith("shotbus.toml")
    assert origins["limits.max_points"] == "default"


def test_a_table_of_a_known_pool_changes_it_and_a_new_pool_is_added(tmp_path):
    pools = loaded(tmp_path, "[pools.aer]\nslots = 5\n[pools.mine]\nadapter = 'aer'\n").config.pools
    assert pools["aer"] == dataclasses.replace(Config().pools["aer"], slots=5)
    assert pools["mine"] == PoolConfig(adapter="aer")
    assert "noop" in pools


def test_every_mistake_is_said_at_once(tmp_path):
    text = "[broker]\npartitons = 4\npartitions = 'four'\n[limit]\n[pools.aer]\nslots = 1.5\nmodes = 3\n[log]\nlevel = 7\n"
    found = problems_of(tmp_path, text, {"SHOTBUS__RETRY__BASE": "soon"})
    assert {path: problem.code for path, problem in found.items()} == {
        "$.broker.partitons": "SB-2001",
        "$.broker.partitions": "SB-2002",
        "$.limit": "SB-2001",
        "$.pools.aer.slots": "SB-2002",
        "$.pools.aer.modes": "SB-2002",
        "$.log.level": "SB-2002",
        "$.retry.base": "SB-2002",
    }
    assert found["$.broker.partitons"].hint == "did you mean 'partitions'?"
    assert found["$.limit"].hint == "did you mean 'limits'?"


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("broker = 3", "$.broker"),
        ("pools = 3", "$.pools"),
        ("[pools]\naer = 3", "$.pools.aer"),
        ("[metrics]\nport = true", "$.metrics.port"),
        ("[metrics]\nport = -2", "$.metrics.port"),
        ("[metrics]\nport = 70000", "$.metrics.port"),
        ("[broker]\npartitions = 0", "$.broker.partitions"),
        ("[broker]\nretention_days = nan", "$.broker.retention_days"),
        ("[broker]\nretention_days = inf", "$.broker.retention_days"),
        ("[broker]\nsynchronous = 'OFF'", "$.broker.synchronous"),
        ("[classes.interactive]\nweight = 0", "$.classes.interactive.weight"),
        ("[classes.interactive]\nweight = -1.0", "$.classes.interactive.weight"),
        ("[pools.aer]\nslots = 0", "$.pools.aer.slots"),
        ("[pools.aer]\nmodes = ['smaple']", "$.pools.aer.modes"),
        ("[pools.aer]\nlease_seconds = 0.0", "$.pools.aer.lease_seconds"),
        ("[pools.aer]\nprefetch = -1", "$.pools.aer.prefetch"),
        ("[pools.aer.price]\nper_shot = -0.1", "$.pools.aer.price.per_shot"),
        ("[budgets.b]\nresource = 'time'", "$.budgets.b.resource"),
        ("[budgets.b]\nlimit = -1", "$.budgets.b.limit"),
        ("[budgets.b]\nlimit = inf", "$.budgets.b.limit"),
        ("[budgets.b]\nperiod = 'week'", "$.budgets.b.period"),
        ("[budgets.b]\nalerts = [0.5, 0.0]", "$.budgets.b.alerts"),
        ("[budgets.b]\nblock = 1.5", "$.budgets.b.block"),
        ("[budgets.b]\npool = 'nowhere'", "$.budgets.b.pool"),
        ("[budgets.b]\nresource = 'jobs'\nperiod = 'day'", "$.budgets.b.period"),
        ("[budgets.b]\nresource = 'shots'\nlimit = 1.5", "$.budgets.b.limit"),
        ("[budgets.'a b']", "$.budgets.a b"),
        ("[routing]\ndefault = 'nowhere'", "$.routing.default"),
        ("[limits]\nmax_shots = 0", "$.limits.max_shots"),
        ("[retry]\nfactor = 0.5", "$.retry.factor"),
        ("[log]\nlevel = 'loud'", "$.log.level"),
        ("[log]\nformat = 'xml'", "$.log.format"),
        ("[pools.'bad name']\nslots = 1", "$.pools.bad name"),
        ("[broker]\nprefix = 'a/b'", "$.broker.prefix"),
        ("[broker]\ninstance = 'a b'", "$.broker.instance"),
        ("[broker]\ninstance = '..'", "$.broker.instance"),
    ],
)
def test_a_value_that_cannot_work_is_refused_where_it_stands(tmp_path, text, path):
    (problem,) = problems_of(tmp_path, text).values()
    assert (problem.code, problem.path) == ("SB-2002", path)
    assert problem.limit


@pytest.mark.parametrize("content", [b"[broker", b"\xff\xfe", b"a = 1\na = 2"])
def test_a_file_that_is_no_toml_is_refused(tmp_path, content):
    path = tmp_path / "x.toml"
    path.write_bytes(content)
    with pytest.raises(ShotbusError) as caught:
        load_config(path, {})
    assert caught.value.problems[0].code == "SB-2003"


def test_a_missing_file_that_was_asked_for_is_refused(tmp_path):
    with pytest.raises(ShotbusError) as caught:
        load_config(tmp_path / "none.toml", {})
    assert caught.value.problems[0].code == "SB-2003"


@pytest.mark.parametrize(
    "name", ["SHOTBUS__", "SHOTBUS__BROKER", "SHOTBUS__BROKER__URL__X", "SHOTBUS__NOPE__URL"]
)
def test_an_environment_variable_that_names_no_key_is_refused(tmp_path, name):
    with pytest.raises(ShotbusError) as caught:
        loaded(tmp_path, "", {name: "x"})
    assert caught.value.problems[0].code in {"SB-2001", "SB-2002"}


def test_values_of_the_environment_are_read_as_their_keys_demand(tmp_path):
    environ = {
        "SHOTBUS__POOLS__AER__MODES": "sample,estimate",
        "SHOTBUS__METRICS__PORT": "0",
        "SHOTBUS__RETRY__CAP": "1.5",
    }
    config = loaded(tmp_path, "", environ).config
    assert config.pools["aer"].modes == ("sample", "estimate")
    assert (config.metrics.port, config.retry.cap) == (0, 1.5)


def test_a_secret_is_fetched_from_where_its_reference_points(tmp_path, monkeypatch):
    monkeypatch.setenv("THE_PASSWORD", "s3cret")
    (tmp_path / "secret").write_text("from file\n")
    assert reveal(Secret("env:THE_PASSWORD"), "$.x") == "s3cret"
    assert reveal(Secret(f"file:{tmp_path}/secret"), "$.x") == "from file"
    assert reveal(Secret(""), "$.x") == ""


@pytest.mark.parametrize(
    ("reference", "code"),
    [("env:NOT_SET_ANYWHERE", "SB-2002"), ("file:/does/not/exist", "SB-2003"), ("file:/proc", "SB-2003")],
)
def test_a_secret_that_cannot_be_fetched_is_named_by_its_key_and_its_reference(reference, code):
    with pytest.raises(ShotbusError) as caught:
        reveal(Secret(reference), "$.kafka.sasl_password")
    (problem,) = caught.value.problems
    assert (problem.code, problem.path, problem.actual) == (code, "$.kafka.sasl_password", reference)


def test_a_secret_file_that_is_no_text_is_refused_without_its_bytes(tmp_path):
    (tmp_path / "secret").write_bytes(b"hunter2\xff")
    with pytest.raises(ShotbusError) as caught:
        reveal(Secret(f"file:{tmp_path}/secret"), "$.redis.password")
    assert caught.value.problems[0].code == "SB-2003"
    assert "hunter2" not in str(caught.value)


VALUES = ["'hunter2'", "'env:'", "'env:not a name'", "'file:hunter2'", "'file:'", "20902", "['hunter2']"]


@pytest.mark.parametrize("section", ["kafka.sasl_password", "redis.password"])
@pytest.mark.parametrize("value", [*VALUES, "{hunter2 = 'hunter2'}"])
def test_a_value_in_place_of_a_secrets_reference_is_refused_and_not_repeated(tmp_path, section, value):
    (problem,) = problems_of(tmp_path, f"{section} = {value}\n").values()
    assert (problem.code, problem.path) == ("SB-2002", f"$.{section}")
    assert problem.actual == "a plain value"
    assert problem.limit == "env:NAME or file:/absolute/path"
    assert "hunter2" not in repr(problem)
    assert "20902" not in repr(problem)


def test_a_plain_secret_of_the_environment_is_refused_and_not_repeated(tmp_path):
    (problem,) = problems_of(tmp_path, "", {"SHOTBUS__KAFKA__SASL_PASSWORD": "hunter2"}).values()
    assert (problem.code, problem.path) == ("SB-2002", "$.kafka.sasl_password")
    assert "hunter2" not in repr(problem)


def test_a_value_in_place_of_a_section_of_secrets_is_not_repeated(tmp_path):
    (problem,) = problems_of(tmp_path, "", {"SHOTBUS__KAFKA": "hunter2"}).values()
    assert "hunter2" not in repr(problem)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Secret("hunter2"),
        lambda: KafkaConfig(sasl_password="hunter2"),
        lambda: RedisConfig(password="hunter2"),
    ],
)
def test_no_configuration_made_in_code_holds_a_plain_secret(make):
    with pytest.raises(ValueError, match="a secret is a reference") as caught:
        make()
    assert "hunter2" not in str(caught.value)


def test_a_secret_shows_its_reference_alone(monkeypatch):
    monkeypatch.setenv("THE_PASSWORD", "hunter2")
    config = Config(kafka=KafkaConfig(sasl_password="env:THE_PASSWORD"))
    assert "Secret(env:THE_PASSWORD)" in repr(config)
    assert "hunter2" not in repr(config) + as_toml(config)


def test_a_stores_password_is_not_shown_with_the_configuration(tmp_path):
    found = loaded(tmp_path, "[broker]\nurl = 'kafka://k:1?store=redis://u:hunter2@r:2'\n")
    shown = {key: value for key, value, _ in effective(found)}
    assert shown["broker.url"] == "'kafka://k:1?store=redis://***@r:2'"
    assert "hunter2" not in repr(found) + repr(parse_url(found.config.broker.url))


def test_a_configuration_survives_being_written_as_a_file(tmp_path):
    text = "[pools.mine]\nadapter = 'aer'\nmodes = ['sample']\n[broker]\nprefix = 'a-b_c.'\n[kafka]\nsasl_password = 'env:X'\n"
    config = loaded(tmp_path, text).config
    assert loaded(tmp_path, as_toml(config)).config == config


def test_the_docs_list_every_key_with_its_default_and_nothing_else():
    sections = re.split(r"^## `\[(.+)\]`$", DOCS.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    told = {
        f"{section}.{key}": default
        for section, text in zip(sections[::2], sections[1::2], strict=True)
        for key, default in re.findall(r"^\| `(\w+)` \| `(.*?)` \| .{4,} \|$", text, re.MULTILINE)
    }
    assert told == {key: json.dumps(value) for key, value in documented_keys()}


def documented_keys():
    shapes = typing.get_type_hints(Config)
    for section in dataclasses.fields(Config):
        value, name = getattr(Config(), section.name), section.name
        if isinstance(value, dict):
            # A table of tables may be empty by default: its entries' type is what the docs describe.
            name, value = f"{name}.<name>", typing.get_args(shapes[section.name])[1]()
            if not dataclasses.is_dataclass(value):
                continue  # a table of plain values has no keys of its own
        yield from keys_of(name, value)


def keys_of(section, value):
    for key in dataclasses.fields(value):
        inner = getattr(value, key.name)
        if dataclasses.is_dataclass(inner):
            yield from keys_of(f"{section}.{key.name}", inner)
        else:
            yield f"{section}.{key.name}", inner


def test_the_docs_name_the_pools_and_classes_that_exist():
    text = DOCS.read_text(encoding="utf-8")
    for name in (*Config().pools, *Config().classes):
        assert f"`{name}`" in text


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[fairness]\nmode = 'random'\n", "$.fairness.mode"),
        ("[fairness]\nageing_seconds = -1\n", "$.fairness.ageing_seconds"),
        ("[limits.concurrency]\nuser = 5\n", "$.limits.concurrency.user"),
        ("[limits.concurrency]\n'tenant:' = 5\n", "$.limits.concurrency.tenant:"),
        ("[limits.concurrency]\nsession = 0\n", "$.limits.concurrency.session"),
    ],
)
def test_a_limit_of_nothing_and_an_unknown_mode_are_mistakes(tmp_path, text, place):
    with pytest.raises(ShotbusError) as caught:
        loaded(tmp_path, text)
    assert [problem.path for problem in caught.value.problems] == [place]


def test_concurrency_limits_are_read_as_they_stand(tmp_path):
    config = loaded(tmp_path, "[limits.concurrency]\ntenant = 9\n'tenant:ada' = 5\n").config
    assert config.limits.concurrency == {"tenant": 9, "tenant:ada": 5}
