"""Imports point one way: schemas ← broker ← {producers, workers, reducers} ← shotbus; deploy and benchmarks are leaves."""

import ast

import pytest

MAY_IMPORT = {
    "schemas": (),
    "broker": ("schemas",),
    "producers": ("schemas", "broker"),
    "workers": ("schemas", "broker"),
    "reducers": ("schemas", "broker"),
    "deploy": ("schemas", "broker", "producers"),
    "benchmarks": ("schemas", "broker", "producers", "workers", "reducers", "deploy"),
    "shotbus": ("schemas", "broker", "producers", "workers", "reducers", "deploy", "benchmarks"),
}


def component_of(name):
    """The component that an imported module belongs to; None for what is not ours."""
    first, _, rest = name.partition(".")
    if first != "shotbus":
        return None
    second = rest.partition(".")[0]
    return second if second in MAY_IMPORT else "shotbus"


def imported_components(module):
    for name, taken in module.imports():
        full = f"{name}.{taken}" if taken and name == "shotbus" else name
        if component_of(full) not in (None, module.component):
            yield component_of(full), full


@pytest.mark.parametrize("component", MAY_IMPORT)
def test_a_component_imports_only_what_stands_below_it(modules, component):
    wrong = [
        f"{module.place} imports {full}"
        for module in modules.values()
        if module.component == component
        for other, full in imported_components(module)
        if other not in MAY_IMPORT[component]
    ]
    assert wrong == []


def test_nothing_is_imported_by_a_bare_folder_name(modules):
    wrong = [
        f"{module.place} imports {name}"
        for module in modules.values()
        for name, _ in module.imports()
        if name.partition(".")[0] in MAY_IMPORT and name.partition(".")[0] != "shotbus"
    ]
    assert wrong == []


def test_what_is_imported_of_ours_exists(modules):
    known = {name.rpartition(".")[0] for name in modules} | set(modules)
    names = {(module.place, name) for module in modules.values() for name, _ in module.imports()}
    assert sorted((place, name) for place, name in names if component_of(name) and name not in known) == []


def test_modules_do_not_import_each_other_in_circles(modules):
    edges = {name: at_load(module, modules) for name, module in modules.items()}
    done, path = set(), []

    def visit(name):
        assert name not in path, f"a circle: {[*path[path.index(name) :], name]}"
        if name not in done:
            path.append(name)
            for other in edges[name]:
                visit(other)
            path.pop()
            done.add(name)

    for name in edges:
        visit(name)


def at_load(module, modules):
    """Our modules that are imported when this one is loaded, not later inside a function."""
    found = []
    for node in module.tree.body:
        if isinstance(node, ast.ImportFrom):
            parts = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [name for name in parts if name in modules] or [node.module]
    return [name for name in found if name in modules and name != module.name]
