"""A day of hourly calibrations: what the rule keeps it may keep, and it compiles much less than without it."""

import pytest
from qiskit.providers.fake_provider import GenericBackendV2
from worker_kit import angles, batch, item, request, rotations

from shotbus.benchmarks.calibrations import chains, day, replay
from shotbus.workers.adapters.aer_device import AerSettings, DeviceModel
from shotbus.workers.adapters.aer_fit import errors_at, places_of
from shotbus.workers.adapters.aer_sensing import SensingAerAdapter
from shotbus.workers.compiled.cache import CompileCache
from shotbus.workers.compiled.reuse import EVERY_CALIBRATION, Rule, shift

DAY, HOUR_MS = 86_400.0, 3_600_000
RULE = Rule(DAY, 0.2)
TEXT, NAMES = rotations(2)
CIRCUITS = chains(3)


@pytest.fixture(scope="module")
def hours():
    backend = GenericBackendV2(8, coupling_map=[[k, (k + 1) % 8] for k in range(8)], seed=3)
    return list(day(backend.target, 0.02))


def compiled_anew(looks):
    return sum(look.origin == "anew" for look in looks)


def test_with_the_rule_most_are_found_and_each_is_within_it_and_without_none_is(hours, tmp_path):
    with_rule = list(replay(CIRCUITS, hours, RULE, tmp_path / "rule"))
    without = list(replay(CIRCUITS, hours, EVERY_CALIBRATION, tmp_path / "none"))
    assert compiled_anew(without) == len(without) == 24 * len(CIRCUITS)
    assert compiled_anew(with_rule) <= len(with_rule) // 3
    by_id = {one.calibration_id: one for one in hours}
    for look in with_rule:
        made_for = by_id[look.circuit.fit.calibration_id]
        assert look.calibration.calibrated_ms - made_for.calibrated_ms < DAY * 1000
        target = made_for.target
        places = places_of(target, look.circuit.circuit, look.circuit.wires, bare=False)
        before, now = errors_at(target, places), errors_at(look.calibration.target, places)
        assert any(name == "cx" for name, _ in places)
        assert all(shift(before[place], now[place]) <= RULE.error_shift for place in places)


def test_a_stricter_rule_compiles_more_and_age_alone_compiles_too(hours, tmp_path):
    strict = replay(CIRCUITS[:1], hours, Rule(DAY, 0.05), tmp_path / "strict")
    aged = replay(CIRCUITS[:1], hours, Rule(6 * 3_600.0, 1e6), tmp_path / "aged")
    assert 4 < compiled_anew(strict) < 24
    assert compiled_anew(aged) == 4


class Clock:
    def __init__(self):
        self.now = 400_000 * HOUR_MS

    def wall_ms(self):
        return self.now

    def monotonic(self):
        return self.now / 1000


def device(clock, directory=None, rule=RULE):
    model = DeviceModel("generic", 5, "line", 7, 3_600.0)
    adapter = SensingAerAdapter(AerSettings("CPU", model), clock)
    adapter.keep_in(CompileCache(directory, rule=rule))
    return adapter


def facts(adapter, **fields):
    known = batch([item(request(TEXT, angles(NAMES, 1), **fields))], TEXT)
    assert adapter.run(known)[0].problems == ()
    told = adapter.provenance(known)
    (circuit,) = told["circuits"].values()
    return told["calibration_id"], circuit


def test_provenance_says_what_it_was_compiled_for_and_why_it_was_used(tmp_path):
    clock, patient = Clock(), Rule(DAY, 1e6)
    first = device(clock, tmp_path / "kept", patient)
    made_for, told = facts(first)
    assert "compiled_for" not in told
    assert "compiled_because" not in told
    clock.now += HOUR_MS
    for adapter, origin in ((first, "memory"), (device(clock, tmp_path / "kept", patient), "disk")):
        now, told = facts(adapter)
        assert now != made_for
        assert (told["compiled"], told["compiled_for"]) == (origin, made_for)
        assert told["compiled_because"].startswith(
            "the calibrations are 3600 s apart, no error moved by more"
        )
        assert adapter._compiler.kept.counts.reused == 1
        assert facts(adapter)[1]["compiled_for"] == made_for
    now, told = facts(first, options={"recompile": "true"})
    assert told["compiled"] == "anew"
    assert "compiled_for" not in told


def test_provenance_says_why_it_was_compiled_although_there_was_an_earlier_one():
    clock = Clock()
    adapter = device(clock)
    facts(adapter)
    clock.now += HOUR_MS
    _, told = facts(adapter)
    assert told["compiled"] == "anew"
    # Modelled devices draw each calibration anew, whatever the one before was.
    assert "moved by" in told["compiled_because"]
    assert "more than 0.2" in told["compiled_because"]
    clock.now += 30 * HOUR_MS
    _, told = facts(adapter)
    assert told["compiled_because"] == "the calibrations are 108000 s apart, 86400 s is too much"


def test_estimates_look_at_the_readout_of_every_qubit_they_may_measure():
    clock = Clock()
    adapter = device(clock)
    text, names = rotations(2, measured=False)
    from shotbus.schemas.pub import PauliSums, pack_observables

    raw = request(
        text,
        angles(names, 1),
        mode="estimate",
        observables=pack_observables(PauliSums.from_terms([[("ZZ", 1.0)]])),
    )
    assert adapter.run(batch([item(raw)], text))[0].problems == ()
    (kept,) = adapter._compiler._newest._entries.values()
    places = set(kept[0].fit.errors)
    assert {("measure", (wire,)) for wire in kept[0].wires} <= places
