"""One Hypothesis profile for the property tests: the same examples in every run, no time limit on an example.

``SHOTBUS_HYPOTHESIS=explore`` draws new examples each time, and ten times as many where a test asks for ``examples``.
"""

import os
import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

sys.path.append(str(Path(__file__).parent))  # the models
sys.path.append(str(Path(__file__).parents[1]))  # the helpers that several suites share

settings.register_profile(
    "shotbus", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", settings.get_profile("shotbus"), derandomize=False, print_blob=True)
settings.load_profile(os.environ.get("SHOTBUS_HYPOTHESIS", "shotbus"))
