"""The commands beside `offloop run`: the demo and the doctor work."""

import importlib.util
import json

import pytest
from PIL import Image

from offloop import _doctor


def test_demo_tells_its_story_and_draws_it(offloop_command, tmp_path):
    ended = offloop_command("demo", "--seconds", "0.5", "--out", "drawn")
    if importlib.util.find_spec("skimage") is None:
        # On Python 3.15, see requirements/demo.txt.
        assert ended.returncode == 1
        assert "scikit-image<0.27 (for its photographs)" in ended.stdout + ended.stderr
        return
    assert ended.returncode == 0, ended.stdout + ended.stderr
    for title in ("on the event loop", "in threads", "standard pool per request", "offloop"):
        assert title in ended.stdout
    with Image.open(tmp_path / "drawn" / "demo.png") as timeline:
        assert timeline.width == 2400
    page = (tmp_path / "drawn" / "demo.html").read_text()
    assert page.count("<svg") == 4
    assert "http://" not in page
    assert "https://" not in page


@pytest.mark.quick
def test_doctor_finds_what_offloop_needs(offloop_command):
    ended = offloop_command("doctor", "--json")
    assert ended.returncode == 0
    findings = {finding["name"]: finding for finding in json.loads(ended.stdout)}
    assert len(findings) == len(_doctor.PROBES)
    assert {"kernel", "pidfd", "memfd", "Python", "offloop"} <= findings.keys()
    assert all(finding["meaning"] for finding in findings.values())
    assert "offloop can work here." in offloop_command("doctor").stdout


def test_doctor_reports_what_fails_and_says_so_in_its_status(monkeypatch, capsys):
    def probe_pidfd():
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(_doctor, "PROBES", (probe_pidfd,))
    assert _doctor.run_doctor(as_json=False) == 1
    printed = capsys.readouterr().out
    assert "Operation not permitted" in printed
    assert "offloop cannot work here: pidfd" in printed
