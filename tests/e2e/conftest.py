"""Tests that drive a browser run when they are asked for: `python -m pytest -m e2e`."""

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip them otherwise: each starts JupyterLab and Chromium, and takes half a minute."""
    if "e2e" in config.option.markexpr:
        return
    skip = pytest.mark.skip(reason="drives a browser: run with -m e2e")
    for item in items:
        if item.get_closest_marker("e2e"):
            item.add_marker(skip)
