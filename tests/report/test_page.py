"""The report's page in a real browser: it is drawn, fits a phone, asks nobody for anything, and believes no name."""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import pytest
from slurm_reserve.evidence.page import page

from tests.report.made_up import HOSTILE, report

WIDTHS = {"desktop": (1280, 2600), "phone": (390, 4200)}
# Tells, after everything is drawn, how wide the page is and what a browser made of it.
PROBE = """<script>addEventListener('load',()=>setTimeout(()=>{const d=document.documentElement;
parent.postMessage({wide:d.scrollWidth+' '+d.clientWidth,height:d.scrollHeight,
charts:[...document.querySelectorAll('.js-plotly-plot .main-svg:first-child')]
.map(e=>Math.round(e.getBoundingClientRect().right)).join(' '),
images:document.querySelectorAll('img,iframe,link,object,embed').length,name:document.title},'*')},500))
</script></body>"""
# A window of chromium's is never as narrow as a phone, so the page is looked at in a frame that is.
FRAME = """<!doctype html><html><body style="margin:0">
<iframe src="page.html" style="border:0;width:{0}px;height:{1}px">
</iframe><script>addEventListener('message',e=>Object.assign(document.documentElement.dataset,e.data))</script>
</body></html>"""


def chromium() -> str:
    """Its path; without one these tests fail, as those on Slurm do without Slurm."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert found, "no chromium: apt-get install --no-install-recommends chromium, or tools/setup --browser"
    return found


def look(file: Path, folder: Path, width: int, height: int) -> tuple[dict[str, str], bytes, set[str]]:
    """What the browser says of the page, its picture, and which addresses it asked for."""
    base = [
        *(chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"),
        *("--disable-extensions", "--disable-default-apps", f"--window-size={max(width, 500)},{height}"),
        "--virtual-time-budget=6000",
    ]
    picture, log = folder / "page.png", folder / "net.json"
    shot = [f"--user-data-dir={folder}/one", f"--screenshot={picture}", f"--log-net-log={log}", file.as_uri()]
    subprocess.run([*base, *shot], check=True, capture_output=True, timeout=120)
    said: dict[str, str] = {}
    for attempt in range(3):  # a machine that is busy may not have drawn it in time
        argv = [*base, f"--user-data-dir={folder}/dom{attempt}", "--dump-dom", file.as_uri()]
        dom = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=120).stdout
        said = dict(re.findall(r'data-(\w+)="([^"]*)"', dom[:2000]))
        if said:
            break
    asked = set(re.findall(r"https?://[^\"\\\s]+", json.dumps(_requests(log))))
    return said, picture.read_bytes(), asked


def _requests(log: Path) -> list[str]:
    """Addresses of what was loaded for the page; what the browser does for itself is not the page's."""
    text = log.read_text()
    return [url for url in re.findall(r'"url":"([^"]+)"', text) if "evil" in url or "plot" in url or "cdn" in url]


def shades(png: bytes) -> int:
    """How many different rows of pixels a picture has: a blank one has a single one."""
    at, data = 8, b""
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            data += png[at + 8 : at + 8 + length]
        at += 12 + length
    raw = zlib.decompress(data)
    width, height = struct.unpack(">II", png[16:24])
    stride = len(raw) // height
    assert stride >= width
    return len({raw[i * stride : (i + 1) * stride] for i in range(height)})


@pytest.mark.browser
@pytest.mark.parametrize("kind", WIDTHS)
def test_the_page_is_drawn_and_fits(kind: str, tmp_path: Path) -> None:
    width, height = WIDTHS[kind]
    file = tmp_path / "page.html"
    file.write_text(page("lab", report()).replace("</body>", PROBE))
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.format(width, height))
    said, picture, asked = look(frame, tmp_path, width, height)
    wide, inner = map(int, said["wide"].split())
    assert inner == width
    assert wide <= inner
    ends = [int(end) for end in said["charts"].split()]
    assert len(ends) == 4
    assert max(ends) <= inner
    assert shades(picture) > 200
    assert asked == set()
    assert said["name"] == "Lending on lab"
    assert said["images"] == "0"


def test_no_name_becomes_markup() -> None:
    text = page(HOSTILE, report())
    without_library = re.sub(r"<script>.*?</script>", "", text, count=1, flags=re.DOTALL)
    assert HOSTILE not in text
    assert "<img" not in without_library
    assert "onerror=alert(1)&gt;" in text
    assert "default-src 'none'" in text


def test_it_is_one_file_of_bounded_size() -> None:
    text = page("lab", report(node_count=60))
    assert len(text) < 7_000_000
    assert "40 of 60 nodes are drawn" in text
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=", text[:1500])
