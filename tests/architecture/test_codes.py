"""Error codes: what the code says is registered, what is registered is said somewhere, and all of it is documented."""

import re

from shotbus.schemas.errors import CODES

CODE = re.compile(r"SB-\d{4}")
TABLE = "shotbus.schemas.errors"


def used(modules):
    found = {}
    for name, module in modules.items():
        text = module.text if name != TABLE else module.text[module.text.index("class Problem") :]
        for code in CODE.findall(text):
            found.setdefault(code, []).append(module.place)
    return found


def test_every_code_that_is_used_is_registered(modules):
    assert {code: places for code, places in used(modules).items() if code not in CODES} == {}


def test_every_registered_code_is_used(modules):
    assert [code for code in CODES if code not in used(modules)] == []


def test_every_registered_code_is_documented(root):
    page = (root / "docs" / "errors.md").read_text()
    assert [code for code in CODES if code not in page] == []
    assert [code for code in CODE.findall(page) if code not in CODES] == []


def test_codes_are_in_order_and_titles_differ():
    assert list(CODES) == sorted(CODES)
    assert len(set(CODES.values())) == len(CODES)
