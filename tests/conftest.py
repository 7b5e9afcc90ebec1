"""Hypothesis draws the same examples in every run: a failure is a fact, not a mood."""

import gc
import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "fixed",
    derandomize=True,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
settings.load_profile("fixed")

# The readline that pytest loads exports them to the workers of xdist and to whatever a test starts.
for _width in ("COLUMNS", "LINES"):
    os.environ.pop(_width, None)
    os.unsetenv(_width)

# Modules and tests stay until the end: to look through them for garbage again and again takes a fifth of the time.
gc.set_threshold(100_000, 50, 100)
