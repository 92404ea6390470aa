"""HAProxy with the configuration of Docker's profile ``scale``, on a free port."""

import os
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import httpx
import pytest
from processes import ROOT, free_port


class Balancer:
    """Start it in front of two replicas, with their ports and its own put in."""

    def __init__(self, folder: Path, replicas: list[int]) -> None:
        if shutil.which("haproxy") is None:
            pytest.skip("haproxy is not installed")
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        text = (ROOT / "deploy" / "haproxy.cfg").read_text()
        one, two = replicas
        ports = {"bind :4080": self.port, 'proxy:"${PORT}"': one, 'proxy-2:"${PORT}"': two}
        for written, port in ports.items():
            assert f" {written}" in text
            text = text.replace(f" {written}", f" {'bind ' * written.startswith('bind')}127.0.0.1:{port}")
        path = folder / "haproxy.cfg"
        path.write_text(text)
        self.process = subprocess.Popen(["haproxy", "-W", "-db", "-f", str(path)], start_new_session=True)

    def wait_ready(self) -> "Balancer":
        poll = threading.Event()
        for _ in range(150):
            try:
                if httpx.get(self.url, trust_env=False).status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            poll.wait(0.2)
        raise AssertionError("the balancer does not answer")

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(10)
