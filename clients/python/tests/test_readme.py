"""The README's examples do what it says."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deployments import Deployment

README = Path(__file__).parent.parent / "README.md"


def test_every_example_of_the_readme_runs(own: Callable[..., Deployment], capsys: pytest.CaptureFixture[str]) -> None:
    deployment = own()
    examples = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.S | re.M)
    assert len(examples) >= 8
    names: dict[str, Any] = {"__name__": "readme"}
    for number, example in enumerate(examples, 1):
        code = example.replace("http://localhost:8080", deployment.url)
        exec(compile(code, f"README.md, example {number}", "exec"), names)  # noqa: S102 - it is ours
    shown = capsys.readouterr().out
    for line in ("State.PERSISTED", "State.REACHED 0", "3 ['", "Kind.NOT_FOUND 404", "Settled(dead_letters=0", "1 b'hello'"):
        assert line in shown, shown
