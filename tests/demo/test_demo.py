"""`make demo` plays its scenes and leaves nothing behind."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from tests.demo.__main__ import ROOT


def leftovers() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("pooling-demo-*"))


@pytest.mark.slow
@pytest.mark.serial
def test_ctrl_c_ends_the_demo_without_a_trace() -> None:
    before = leftovers()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    demo = subprocess.Popen(
        [sys.executable, "-m", "tests.demo", "--seconds", "2", "--port", str(port)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    guard = threading.Timer(120, demo.kill)
    guard.start()
    said = []
    assert demo.stdout is not None
    for line in demo.stdout:
        said.append(line)
        if "a deployment" in line:
            demo.send_signal(signal.SIGINT)
    guard.cancel()
    demo.stdout.close()
    text = "".join(said)
    assert demo.wait(60) == 0, text
    assert f"http://127.0.0.1:{port}/admin/pooling/connectionpool/" in text
    assert "Traceback" not in text
    assert leftovers() == before
    with socket.socket() as probe:  # nothing listens any more
        assert probe.connect_ex(("127.0.0.1", port)) != 0
