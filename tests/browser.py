"""Pages in a headless Chromium, for tests that skip without one."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--virtual-time-budget=20000",
)  # fmt: skip


def handed(page: str, folder: Path, *, width: int = 1280) -> Any:
    """What a script of this page hands over by `hand(value)`, as JSON; a window is no narrower than 500."""
    browser = next((found for name in NAMES if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"no Chromium on the path ({', '.join(NAMES)}): apt-get install chromium, or your system's package")
    hand = """<script>
    function hand(value) {
      const bytes = new TextEncoder().encode(JSON.stringify(value));
      document.body.innerHTML = "outcome:" + btoa(String.fromCharCode(...bytes)) + ":end";
    }
    </script>"""
    file = folder / "clicked.html"
    file.write_text(page.replace("</head>", hand + "</head>"), encoding="utf-8")
    command = [browser, *FLAGS, f"--window-size={width},900", f"--user-data-dir={folder / 'browser'}", "--dump-dom"]
    done = subprocess.run([*command, file.as_uri()], capture_output=True, text=True, timeout=120)
    found = re.search(r"outcome:([\w+/=]+):end", done.stdout)
    assert found, f"the page did not come to its end: {done.stderr[-500:]}"
    return json.loads(base64.b64decode(found[1]))
