"""Entries that differ in their calibration alone: found newest first, evicted like others, written by many."""

import os
import subprocess
import sys

from shotbus.workers.compiled.cache import CompileCache
from shotbus.workers.compiled.entry import Entry, dated_key

GROUP = "ab" * 32


def entry(number, size=1_000):
    return Entry({"number": number}, bytes([number]) * size)


def key(when_ms, name="x", group=GROUP):
    return dated_key(group, name, when_ms)


def test_the_newest_calibration_is_offered_first_and_those_of_other_groups_never(tmp_path):
    cache = CompileCache(tmp_path / "kept")
    for when in (30, 4, 1_000_000):
        cache.put(key(when), entry(1))
    cache.put(key(50, group="cd" * 32), entry(2))
    assert cache.earlier(GROUP) == [key(1_000_000), key(30), key(4)]
    assert cache.earlier("ef" * 32) == []
    assert not cache.counts.failed


def test_of_very_many_the_newest_are_offered(tmp_path):
    cache = CompileCache(tmp_path / "kept")
    for when in range(1, 101):
        cache.put(key(when), entry(1, 10))
    offered = cache.earlier(GROUP)
    assert offered == [key(when) for when in range(100, 100 - len(offered), -1)]
    assert 4 <= len(offered) < 100


def test_what_a_stranger_calls_a_calibration_stays_in_its_directory(tmp_path):
    cache = CompileCache(tmp_path / "kept")
    for name, when in (("../../etc/passwd", -5), ("a/b\0c", 10**400), ("", 0)):
        cache.put(key(when, name), entry(3))
        assert cache.get(key(when, name)) == entry(3)
    assert len(cache.earlier(GROUP)) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_group_that_was_evicted_goes_with_its_directory_and_comes_again(tmp_path):
    directory = tmp_path / "kept"
    cache = CompileCache(directory, max_bytes=20_000)
    for number in range(40):
        group = f"{number:064x}"
        cache.put(key(1, group=group), entry(number))
        os.utime(directory / f"{key(1, group=group)}.qpy", (number, number))
    left = {path.name for path in directory.iterdir() if path.is_dir()}
    assert f"{0:064x}" not in left
    assert f"{39:064x}" in left
    assert sum(path.stat().st_size for path in directory.rglob("*.qpy")) <= 20_000
    assert cache.counts.evicted >= 20
    cache.put(key(1, group=f"{0:064x}"), entry(7))
    assert cache.get(key(1, group=f"{0:064x}")) == entry(7)


def test_a_damaged_one_is_removed_and_the_others_are_offered(tmp_path):
    cache = CompileCache(tmp_path / "kept")
    cache.put(key(1), entry(1))
    cache.put(key(2), entry(2))
    (tmp_path / "kept" / f"{key(2)}.qpy").write_bytes(b"torn")
    assert cache.get(key(2)) is None
    assert cache.earlier(GROUP) == [key(1)]
    assert cache.counts.damaged == 1


HAMMER = """
import sys
from pathlib import Path
from shotbus.workers.compiled.cache import CompileCache
from shotbus.workers.compiled.entry import Entry, dated_key

cache, wrong = CompileCache(Path(sys.argv[1]), max_bytes=40_000), 0
for turn in range(200):
    number = (turn * 7 + int(sys.argv[2])) % 8
    one, group = Entry({"number": number}, bytes([number]) * 4_000), f"{number:064x}"
    for key in cache.earlier(group):
        found = cache.get(key)
        wrong += found is not None and found != one
    cache.put(dated_key(group, str(turn % 3), turn % 3 + 1), one)
print(wrong, cache.counts.damaged, cache.counts.failed)
"""


def test_processes_that_write_list_and_evict_groups_at_once_see_whole_entries_only(tmp_path):
    command = [sys.executable, "-c", HAMMER, str(tmp_path / "kept")]
    running = [subprocess.Popen([*command, str(seed)], stdout=subprocess.PIPE, text=True) for seed in (1, 2)]
    told = [process.communicate(timeout=60)[0].split() for process in running]
    assert [words[:2] for words in told] == [["0", "0"]] * 2
    assert not list((tmp_path / "kept").rglob("*.new"))
