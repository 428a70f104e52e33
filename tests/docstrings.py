"""What every public docstring must have."""

from __future__ import annotations

import inspect
import pydoc
import re


def check_numpydoc(function):
    """Its sections, and an entry for each parameter."""
    doc = pydoc.getdoc(function)
    for section in ("Parameters", "Returns", "Raises", "Examples", "References"):
        assert re.search(rf"^{section}\n-+$", doc, re.M), f"no section {section}"
    for name in inspect.signature(function).parameters:
        assert re.search(rf"^{name} : ", doc, re.M), f"parameter {name} is not described"
