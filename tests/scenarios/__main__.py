"""`scripts/scenarios [NAME…]`: plays them, prints what was expected and got, and the confusion matrix."""

from __future__ import annotations

import sys

from tests.scenarios import causes
from tests.scenarios.runner import pick, run
from tests.scenarios.scenario import SCENARIOS

results = run(
    pick(SCENARIOS.values(), sys.argv[1:]),
    lambda one: print(one.name, "ok" if one.passed else one.wrong, one.error, flush=True),
)
for one in results:
    if not one.passed:
        print("==", one.name, one.wrong)
        print(one.story)
