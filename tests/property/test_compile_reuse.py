"""When what was compiled for an earlier calibration is used: young, and no error that it uses moved too far."""

import math

from hypothesis import assume, given
from hypothesis import strategies as st

from shotbus.workers.compiled.reuse import EVERY_CALIBRATION, Fit, Rule, judge, shift

PLACES = st.tuples(
    st.sampled_from(["cx", "sx", "measure"]), st.lists(st.integers(0, 126), min_size=1, max_size=2)
).map(lambda one: (one[0], tuple(one[1])))
ERRORS = st.none() | st.floats(0, 1)
MEASURED = st.dictionaries(PLACES, st.tuples(ERRORS, ERRORS), min_size=1, max_size=6)
TIMES = st.integers(1, 10**13)
RULES = st.builds(Rule, st.floats(0.001, 1e9), st.floats(0, 1e6))


def fits(measured, before_ms, after_ms):
    """The same places under two calibrations."""
    kept = Fit("a", before_ms, {place: errors[0] for place, errors in measured.items()})
    return kept, Fit("b", after_ms, {place: errors[1] for place, errors in measured.items()})


@given(MEASURED, TIMES, TIMES, RULES)
def test_it_is_used_exactly_while_it_is_young_and_every_error_it_uses_is_near(measured, before, after, rule):
    kept, now = fits(measured, before, after)
    near = all(shift(*errors) <= rule.error_shift for errors in measured.values())
    young = abs(after - before) < rule.after_seconds * 1000
    verdict = judge(kept, now, rule)
    assert verdict.reuse == (near and young)
    assert verdict.why


@given(MEASURED, TIMES, TIMES, RULES, st.floats(1, 10))
def test_a_more_patient_rule_uses_all_that_a_stricter_one_does(measured, before, after, rule, factor):
    kept, now = fits(measured, before, after)
    assume(judge(kept, now, rule).reuse)
    assert judge(kept, now, Rule(rule.after_seconds * factor, rule.error_shift * factor)).reuse


@given(MEASURED, TIMES, TIMES, RULES, st.dictionaries(PLACES, ERRORS, max_size=6))
def test_errors_that_it_does_not_use_change_nothing(measured, before, after, rule, elsewhere):
    kept, now = fits(measured, before, after)
    assert judge(kept, now._replace(errors={**elsewhere, **now.errors}), rule) == judge(kept, now, rule)


@given(MEASURED, TIMES, TIMES)
def test_without_a_rule_every_calibration_is_compiled_for(measured, before, after):
    assert not judge(*fits(measured, before, after), EVERY_CALIBRATION).reuse


@given(MEASURED, TIMES, RULES, st.booleans())
def test_what_is_of_unknown_age_is_not_used(measured, when, rule, first):
    times = (0, when) if first else (when, 0)
    assert not judge(*fits(measured, *times), rule).reuse


@given(st.floats(1e-9, 1), st.floats(1e-9, 1), st.floats(0.01, 100))
def test_a_shift_is_relative_to_what_the_error_was(before, after, factor):
    assert math.isclose(shift(before * factor, after * factor), shift(before, after), abs_tol=1e-9)


@given(ERRORS)
def test_an_error_that_appears_or_is_not_measured_any_more_has_moved_beyond_any_bound(error):
    assert shift(error, error) == 0.0
    if error is not None:
        assert shift(error, None) == shift(None, error) == math.inf
    if error:
        assert shift(0.0, error) == math.inf
        assert shift(error, 0.0) == 1.0


@given(MEASURED, TIMES)
def test_what_a_circuit_was_compiled_for_is_read_as_it_was_written(measured, when):
    fit = fits(measured, when, when)[0]
    assert Fit.read(fit.as_json()) == fit
