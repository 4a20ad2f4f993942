"""The tree is the architecture: nothing beside what was decided, packages declared, modules explained, functions short."""

import ast
import subprocess
import tomllib
from statistics import median

import pytest

TOP_LEVEL = {
    *("pyproject.toml", "Makefile", "README.md", ".ci", ".gitignore"),
    *("schemas", "broker", "producers", "workers", "reducers", "shotbus"),
    *("deploy", "tests", "examples", "benchmarks", "docs"),
}
LONGEST_FUNCTION, LONGEST_TEST = 60, 40


@pytest.fixture(scope="module")
def tracked(root):
    """Every file of the repository that is not ignored."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    return [path for path in listed.splitlines() if (root / path).exists()]


def test_the_top_level_is_what_was_decided(tracked):
    assert {path.partition("/")[0] for path in tracked} == TOP_LEVEL


def test_every_folder_has_content(root):
    folders = [root / name for name in TOP_LEVEL if (root / name).is_dir()]
    assert [folder.name for folder in folders if not any(folder.iterdir())] == []


def test_the_declared_packages_are_those_on_disk(root, modules):
    declared = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    on_disk = [name for name, module in modules.items() if module.path.name == "__init__.py"]
    assert sorted(declared) == sorted(on_disk)


def test_every_module_lies_in_a_declared_package(modules):
    packages = {name for name, module in modules.items() if module.path.name == "__init__.py"}
    loose = [module.place for name, module in modules.items() if name.rpartition(".")[0] not in packages]
    assert [place for place in loose if place != "shotbus/__init__.py" and "tools/" not in place] == []


def test_every_module_says_what_it_is_for(modules):
    silent = [module.place for module in modules.values() if not ast.get_docstring(module.tree)]
    assert silent == []


def functions(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node, node.end_lineno - node.lineno + 1


def body_length(node):
    return node.end_lineno - node.body[0].lineno + 1


def test_functions_are_short(modules):
    found = [
        (f"{module.place}:{node.lineno} {node.name}", lines)
        for module in modules.values()
        for node, lines in functions(module.tree)
    ]
    assert [one for one in found if one[1] > LONGEST_FUNCTION] == []
    assert median(lines for _, lines in found) < 10


def test_tests_are_short(root):
    found = [
        f"{path.relative_to(root)}:{node.lineno} {node.name}"
        for path in sorted((root / "tests").rglob("test_*.py"))
        for node, lines in functions(ast.parse(path.read_text()))
        if node.name.startswith("test_") and lines > LONGEST_TEST
    ]
    assert found == []


def test_no_two_test_files_have_the_same_name(root):
    names = [path.name for path in (root / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))


def test_the_build_finds_the_folders_under_their_import_names(root):
    setuptools = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    tops = {name.split(".")[1] for name in setuptools["packages"] if name.count(".")} - {"cli", "simulation"}
    assert {name.removeprefix("shotbus.") for name in setuptools["package-dir"]} == {"shotbus", *tops}
