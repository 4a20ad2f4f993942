"""Options of pools for their adapters: read from the file and the environment, checked by the adapter."""

import pytest

from shotbus.broker.config_loader import as_toml, load_config
from shotbus.broker.dispatcher.keys import Targets
from shotbus.schemas.errors import ShotbusError
from shotbus.workers.adapters.aer_device import AerSettings, DeviceModel, read_settings
from shotbus.workers.adapters.base import CanSense, load
from shotbus.workers.adapters.options import OptionReader

FILE = """
[pools.device]
adapter = "aer"
[pools.device.options]
device_model = "generic"
qubits = 7
drift_seconds = 0.5
"""


def loaded(tmp_path, text, environ=None):
    path = tmp_path / "shotbus.toml"
    path.write_text(text)
    return load_config(path, environ or {}).config


def problems(make, *arguments):
    with pytest.raises(ShotbusError) as refused:
        make(*arguments)
    return {(problem.code, problem.path) for problem in refused.value.problems}


def test_numbers_are_taken_as_they_are_written_and_the_environment_goes_over_the_file(tmp_path):
    environ = {"SHOTBUS__POOLS__DEVICE__OPTIONS__SEED": "11", "SHOTBUS__POOLS__DEVICE__OPTIONS__QUBITS": "9"}
    options = loaded(tmp_path, FILE, environ).pools["device"].options
    assert options == {"device_model": "generic", "qubits": "9", "drift_seconds": "0.5", "seed": "11"}


def test_a_written_configuration_reads_back(tmp_path):
    config = loaded(tmp_path, FILE + "verbose = true\n")
    assert config.pools["device"].options["verbose"] == "true"
    assert loaded(tmp_path, as_toml(config)) == config


def test_a_table_or_a_list_is_no_option(tmp_path):
    found = problems(loaded, tmp_path, "[pools.p.options]\na = [1]\nb = { c = 1 }\n")
    assert found == {("SB-2002", "$.pools.p.options.a"), ("SB-2002", "$.pools.p.options.b")}


def test_another_device_behind_a_pools_name_has_other_cache_keys(tmp_path):
    one, two = (Targets(loaded(tmp_path, text)).of("device") for text in (FILE, FILE.replace("7", "8")))
    assert one.mark != two.mark


def test_what_aer_is_told_makes_a_device():
    model = DeviceModel("generic", 6, "grid", 3, 60.0)
    options = {"device_model": "generic", "qubits": "6", "coupling": "grid", "seed": "3"}
    assert read_settings({**options, "drift_seconds": "60"}) == AerSettings("CPU", model)
    assert read_settings({"device": "GPU"}) == AerSettings("GPU", None)
    assert not isinstance(load("aer"), CanSense)
    assert isinstance(load("aer", options), CanSense)


def test_every_mistake_is_told_at_once():
    options = {"device": "TPU", "device_model": "heavy", "qubits": "1", "drift_seconds": "soon", "qbits": "4"}
    found = problems(read_settings, {**options, "coupling": "star"})
    wrong = ("device", "device_model", "qubits", "drift_seconds", "coupling")
    assert {path for code, path in found if code == "SB-2002"} == {f"$.{name}" for name in wrong}
    assert ("SB-2001", "$.qbits") in found


def test_a_device_without_a_model_is_no_device():
    assert problems(read_settings, {"qubits": "5"}) == {("SB-2002", "$.qubits")}


@pytest.mark.parametrize("text", ["1e3", "+5", " 5", "5_0", "٥", "", "-1", "1" * 40])
def test_whole_numbers_are_digits_and_nothing_else(text):
    reader = OptionReader({"n": text})
    assert reader.whole("n", 2, 0, 9) == 2
    assert problems(reader.close) == {("SB-2002", "$.n")}


@pytest.mark.parametrize("text", ["nan", "inf", "-0.1", "ten"])
def test_numbers_are_finite_and_in_range(text):
    reader = OptionReader({"x": text})
    assert reader.number("x", 1.0, 0.0, 10.0) == 1.0
    assert problems(reader.close) == {("SB-2002", "$.x")}
