"""The table of phases: complete, without dead ends, and what the docs draw is what the code does."""

import importlib.util
from pathlib import Path

import pytest

from shotbus.broker.dispatcher.states import (
    ASIDE,
    TABLE,
    TERMINAL,
    WITH_A_TIMER,
    WITH_A_WORKER,
    WORDS,
    Cause,
    IllegalTransitionError,
    Phase,
    mermaid,
    next_phase,
)

ROOT = Path(__file__).resolve().parents[2]


def targets(phase):
    return [target for (source, _), target in TABLE.items() if source is phase]


def reachable(start):
    found, todo = [], [start]
    while todo:
        for target in targets(todo.pop()):
            if target not in found:
                found.append(target)
                todo.append(target)
    return found


def test_every_phase_can_be_reached():
    assert all(phase in reachable(None) for phase in Phase)


def test_every_live_phase_can_end_in_every_way():
    for phase in Phase:
        ends = [end for end in reachable(phase) if end in TERMINAL]
        answers = [end for end in ends if end is not Phase.REFUSED]
        assert len(answers) == (0 if phase in TERMINAL else 3)


def test_only_what_is_not_accepted_yet_can_be_refused():
    assert [source for source, cause in TABLE if cause is Cause.REFUSE] == [Phase.VALIDATING]


def test_nothing_leaves_a_terminal_phase():
    assert not [source for source, _ in TABLE if source in TERMINAL]


def test_every_live_phase_can_be_cancelled():
    assert all((phase, Cause.CANCEL) in TABLE for phase in [None, *Phase] if phase not in TERMINAL)


def test_what_a_provider_may_have_does_not_expire_and_what_a_worker_has_only_by_its_word():
    expiring = {phase for phase in WITH_A_WORKER if (phase, Cause.EXPIRE) in TABLE}
    assert expiring == {Phase.FORWARDED, Phase.RUNNING}


def test_every_cause_moves_something():
    assert {cause for _, cause in TABLE} == set(Cause)


def test_a_live_job_has_one_place_by_its_phase():
    live = [phase for phase in Phase if phase not in TERMINAL]
    kinds = (WITH_A_TIMER, WITH_A_WORKER, ASIDE, {Phase.WAITING})
    assert [sum(phase in kind for kind in kinds) for phase in live] == [1] * len(live)


def test_users_can_tell_every_live_phase_apart():
    assert set(WORDS) == set(Phase)
    assert len(set(WORDS.values())) == len(Phase)


def test_a_move_outside_the_table_is_refused():
    with pytest.raises(IllegalTransitionError, match="does not move by"):
        next_phase(Phase.WAITING, Cause.SUCCEED)


def test_the_diagram_has_an_arrow_for_each_row():
    arrows = [line for line in mermaid().splitlines() if ": " in line]
    assert sum(len(arrow.split(", ")) for arrow in arrows) == len(TABLE)
    assert "    [*] --> waiting: accept" in arrows


def test_the_page_is_what_the_table_says():
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "deploy/tools/generate_docs.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert (ROOT / "docs/states.md").read_text() == tool.states_page(), "docs/states.md is stale: make docs"
    assert mermaid() in tool.states_page()


def test_the_page_explains_every_cause():
    page = (ROOT / "docs/states.md").read_text()
    assert [cause for cause in Cause if f"`{cause.value}`" not in page] == []
