"""Runs the examples of a docstring as they stand there."""

from __future__ import annotations

import doctest
import inspect
from io import StringIO


def run_examples(documented: object, *, here: str = "", **names: object) -> None:
    """Run them with these names defined.

    Args:
        here: stands in for the address of a service.
    """
    text = inspect.getdoc(documented) or ""
    text = text.replace("http://127.0.0.1:8000", here or "http://127.0.0.1:8000")
    test = doctest.DocTestParser().get_doctest(text, names, repr(documented), None, None)
    assert test.examples
    said = StringIO()
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.write)
    assert result.failed == 0, said.getvalue()
