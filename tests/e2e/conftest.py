"""Tests that drive a browser run when they are asked for: `make e2e`."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import CHROMIUM, PATIENCE, TOKEN, answers, wait_until


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip them otherwise: each starts JupyterLab and Chromium, and takes half a minute."""
    if "e2e" in config.option.markexpr:
        return
    skip = pytest.mark.skip(reason="drives a browser: run with make e2e")
    for item in items:
        if item.get_closest_marker("e2e"):
            item.add_marker(skip)


@pytest.fixture(scope="module")
def start_lab(repository: Path, tmp_path_factory: Any) -> Iterator[Callable[..., str]]:
    """`start_lab(folder)` serves a folder in a JupyterLab of its own settings; its address."""
    servers = []

    def start(folder: Path, *, package: Path = repository) -> str:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        own = tmp_path_factory.mktemp("jupyter")
        places = ("CONFIG", "DATA", "RUNTIME")
        environment = {
            **os.environ,
            **{f"JUPYTER_{name}_DIR": str(own / name) for name in places},
            "IPYTHONDIR": str(own / "ipython"),
            "PYTHONPATH": str(package),
            "JUPYTER_PREFER_ENV_PATH": "1",
            "JUPYTER_CONFIG_PATH": str(repository / "notebooks" / "jupyter"),
        }
        command = [
            *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
            *("--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"),
            *(f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={folder}"),
            *(
                f"--LabApp.user_settings_dir={own}/settings",
                f"--LabApp.workspaces_dir={own}/spaces",
            ),
            # as `make lab` starts it
            "--LabApp.news_url=None",
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
            "--LabApp.expose_app_in_browser=True",
        ]
        with (own / "lab.log").open("wb") as log:
            server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        servers.append(server)
        address = f"http://127.0.0.1:{port}"
        wait_until(lambda: answers(f"{address}/api?token={TOKEN}") or server.poll() is not None)
        assert server.poll() is None, (own / "lab.log").read_text()
        return address

    yield start
    for server in servers:
        # its kernels end with it
        server.send_signal(signal.SIGTERM)
        server.wait(PATIENCE)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium.

    Whoever asks for these tests wants them to run: without a browser they fail.
    """
    from playwright.sync_api import sync_playwright

    assert CHROMIUM, "these tests need Chromium on the PATH"
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()
