"""JupyterLab on copies of the notebooks, and a browser that may not leave the machine."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlparse

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
SCREENSHOTS = ROOT / "runs" / "browser"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},  # cells out of sight stay in the page
}
KERNEL_IS_IDLE = """() => {
    const panel = window.jupyterapp?.shell.currentWidget;
    return panel?.context?.isReady && panel.sessionContext?.session?.kernel?.status === "idle";
}"""
LOCAL = {"127.0.0.1", "localhost", ""}


@pytest.fixture(scope="session")
def chromium():
    """A headless Chromium; Debian's, driven by Playwright."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="extra 'browser' is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine (Debian: apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


class Watched:
    """A page with what went wrong on it, and what it asked for elsewhere."""

    def __init__(self, page):
        self.page, self.errors, self.elsewhere = page, [], []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._on_console)
        page.on("request", self._on_request)

    def _on_console(self, message):
        if message.type == "error":
            self.errors.append(message.text)

    def _on_request(self, request):
        url = urlparse(request.url)
        if url.scheme not in ("data", "blob", "file") and url.hostname not in LOCAL:
            self.elsewhere.append(request.url)

    def screenshot(self, name):
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")


@pytest.fixture
def watched(chromium):
    """An empty page, watched."""
    context = chromium.new_context(viewport={"width": 1500, "height": 1300})
    yield Watched(context.new_page())
    context.close()


class Lab:
    """A JupyterLab server over a folder."""

    def __init__(self, folder):
        self.folder, self.port = folder, _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.runtime = folder / ".jupyter" / "runtime"
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "JUPYTER_CONFIG_DIR": str(folder / ".jupyter" / "config"),
            "JUPYTER_RUNTIME_DIR": str(self.runtime),
            "JUPYTERLAB_SETTINGS_DIR": str(folder / ".jupyter" / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(folder / ".jupyter" / "workspaces"),
        }
        for name, values in SETTINGS.items():
            path = folder / ".jupyter/settings/@jupyterlab" / f"{name}.jupyterlab-settings"
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps(values))
        command = [
            sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1",
            f"--port={self.port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={folder}",
            "--IdentityProvider.token=", "--ServerApp.password=", "--LabApp.news_url=None",
            "--ServerApp.disable_check_xsrf=True", "--LabApp.extension_manager=readonly",
            "--LabApp.expose_app_in_browser=True",
        ]  # fmt: skip
        self.log = open(folder / "lab.log", "w")  # noqa: SIM115 - closed in stop
        self.process = subprocess.Popen(
            command, env=environment, stdout=self.log, stderr=subprocess.STDOUT
        )

    def wait(self):
        for _ in range(240):
            try:
                return urllib.request.urlopen(f"{self.url}/api/status", timeout=2).read()
            except OSError:
                assert self.process.poll() is None, (self.folder / "lab.log").read_text()
                time.sleep(0.5)
        raise AssertionError(f"no JupyterLab after 2 minutes: {self.folder / 'lab.log'}")

    def stop(self):
        self.process.terminate()
        self.process.wait(30)
        self.log.close()

    def add(self, name, **parameters):
        """A copy of a notebook with other parameters."""
        notebook = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
        cell = next(c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
        cell.source = "\n".join(f"{key} = {value!r}" for key, value in parameters.items())
        nbformat.write(notebook, self.folder / f"{name}.ipynb")

    def open(self, watched, name):
        """Open a notebook and run all its cells."""
        page = watched.page
        page.goto(f"{self.url}/lab/tree/{name}.ipynb?reset", wait_until="domcontentloaded")
        page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=120_000)
        page.wait_for_function(KERNEL_IS_IDLE, timeout=120_000)
        page.evaluate("void window.jupyterapp.commands.execute('notebook:run-all-cells')")

    def ask(self, expression):
        """The value of an expression in the kernel of the one notebook that runs."""
        from jupyter_client import BlockingKernelClient

        (session,) = json.load(urllib.request.urlopen(f"{self.url}/api/sessions"))
        file = self.runtime / f"kernel-{session['kernel']['id']}.json"
        client = BlockingKernelClient(connection_file=str(file))
        client.load_connection_file()
        client.start_channels()
        try:
            reply = client.execute(
                "", user_expressions={"value": f"__import__('json').dumps({expression})"},
                reply=True, timeout=60,
            )  # fmt: skip
        finally:
            client.stop_channels()
        value = reply["content"]["user_expressions"]["value"]
        assert value["status"] == "ok", value
        return json.loads(value["data"]["text/plain"][1:-1].replace("\\'", "'"))

    def shut_down_kernels(self):
        for session in json.load(urllib.request.urlopen(f"{self.url}/api/sessions")):
            request = urllib.request.Request(
                f"{self.url}/api/sessions/{session['id']}", method="DELETE"
            )
            urllib.request.urlopen(request)


@pytest.fixture(scope="session")
def server(tmp_path_factory, chromium):
    lab = Lab(tmp_path_factory.mktemp("lab"))
    try:
        lab.wait()
        yield lab
    finally:
        lab.stop()


@pytest.fixture
def lab(server):
    """The server with no kernel running."""
    yield server
    server.shut_down_kernels()


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
