"""How circuit templates are called: ``name@version``. Pure."""

from __future__ import annotations

import re

#: A name, and a version of it; neither can be part of an OpenQASM text that says anything.
TEMPLATE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}@[A-Za-z0-9][A-Za-z0-9._-]{0,31}")
