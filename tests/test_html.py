"""The page of a report: whole, harmless, readable by a parser, and honest at the top."""

import dataclasses
import re
import shutil
import subprocess
from html import escape
from html.parser import HTMLParser

import numpy as np
import pytest
from draws import RNG
from rich.console import Console

import fitting
from fitting._command._report_table import show
from fitting._reports import fold
from fitting._reports._remarks import caveats, left_out, verdicts

EVIL = "<script>alert('@@script@@')</script>\"><img src=x onerror=alert(1)>"
VOID = {"meta", "input", "br", "wbr"}
# The end tags that HTML lets a page leave out.
OPTIONAL = {"p", "dd", "dt", "td", "option"}


def heavy(rows, cols):
    u, _ = np.linalg.qr(RNG.standard_normal((rows, cols)))
    eigenvalues = (1 - (np.arange(cols) + 0.5) / cols) ** (-1 / 1.5)
    return u * np.sqrt(eigenvalues)


PARAMS = {
    EVIL: {"kernel": heavy(120, 60)},
    "conv": {"kernel": RNG.standard_normal((2, 2, 60, 80))},
    "noise": {"kernel": RNG.standard_normal((64, 64))},
    "zero": {"kernel": np.zeros((20, 20))},
    "nan": {"kernel": np.full((20, 20), np.nan)},
    "bias": np.zeros(3),
}


class Page(HTMLParser):
    """Every tag closed in order; the tags, their attributes, and the text outside scripts."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text, self.scripts = [], [], [], []
        self.feed(text)
        self.close()
        assert not [tag for tag in self.open if tag not in OPTIONAL]

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        while self.open[-1] != tag:
            assert self.open.pop() in OPTIONAL, tag
        self.open.pop()

    def handle_data(self, data):
        (self.scripts if self.open and self.open[-1] == "script" else self.text).append(data)


@pytest.fixture(scope="module")
def report():
    return fitting.evaluate(PARAMS, progress=False)


@pytest.fixture(scope="module")
def page(report, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    path = report.to_html(folder / "report.html", title=f"model {EVIL}")
    assert [file.name for file in folder.iterdir()] == ["report.html"]
    return path.read_text(encoding="utf-8")


def test_names_of_layers_run_no_script(page):
    parsed = Page(page)
    assert len(parsed.scripts) == 1
    assert not any(
        tag in ("img", "iframe", "object", "base", "form action") for tag, _ in parsed.tags
    )
    assert not any(name.startswith("on") for _, attributes in parsed.tags for name in attributes)
    assert EVIL in "".join(parsed.text)
    (policy,) = [a["content"] for tag, a in parsed.tags if a.get("http-equiv")]
    assert "default-src 'none'" in policy
    assert re.search(r"script-src 'sha256-[\w+/]{43}='", policy)


def test_the_page_asks_for_nothing_from_elsewhere(page):
    assert not re.search(r"https?://|src=|@import|url\(", page.replace("src=x onerror", ""))
    # The only marks left are those in the layer's name, which was not filled in.
    assert set(re.findall(r"@@\w+@@", page)) == {"@@script@@"}
    assert page.count("use strict") == 1


def test_every_matrix_is_in_the_table(page, report):
    parsed = Page(page)
    layers = [a for tag, a in parsed.tags if tag == "tbody" and "data-name" in a]
    assert [a["data-name"] for a in layers] == list(report.layers["name"].unique())
    # A line for each layer, and one for each slice of the convolution, hidden.
    rows = [a for tag, a in parsed.tags if tag == "tr"]
    assert len([a for a in rows if a.get("class") == "part"]) == 4
    assert all("hidden" in a for a in rows if a.get("class") == "part")
    text = "".join(parsed.text)
    for reason in report.layers.loc[~report.layers["valid"], "reason"]:
        assert f">{escape(reason)}</td>" in page
    heading = text[text.index("tensors not measured") - 4 :]
    assert "bias" in heading


def test_numbers_of_the_drawings_are_finite(page):
    drawn = re.findall(r'(?:d|x|y|cx|cy|width|height)="([^"]*)"', page)
    assert len(drawn) > 30
    assert not any("nan" in numbers or "inf" in numbers for numbers in drawn)


def test_columns_that_a_report_may_have_are_shown(report, tmp_path):
    layers = report.layers.assign(phase_reason="because <b>", best_distribution=np.nan)
    layers["best_distribution"] = layers["best_distribution"].astype(object)
    layers.loc[layers["name"] == EVIL + "/kernel", "best_distribution"] = "lognormal"
    path = dataclasses.replace(report, layers=layers).to_html(tmp_path / "page.html")
    parsed = Page(path.read_text(encoding="utf-8"))
    assert "lognormal" in parsed.text
    assert {"title": "because <b>"} in [attributes for _, attributes in parsed.tags]


def test_a_model_without_a_fit_has_a_page(tmp_path):
    report = fitting.evaluate({"zero": PARAMS["zero"]}, progress=False)
    page = report.to_html(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "No matrix has a power-law fit" in page
    assert "all weights are zero, or too small to square (1)" in page
    Page(page)


def test_a_failure_leaves_no_file(report, tmp_path):
    with pytest.raises(OSError, match="missing"):
        report.to_html(tmp_path / "missing" / "report.html")
    assert not list(tmp_path.iterdir())


def test_the_reading_takes_each_matrix_once_and_noise_for_no_training(report):
    said = {remark.heading: remark for remark in verdicts(report)}
    assert said["Signs of good training"].layers == (EVIL,)
    assert "noise" in said["No trace of training"].layers
    assert "noise" not in said["Signs of good training"].layers
    counted = sum(int(remark.text.split()[0]) for remark in said.values())
    assert counted == report.layers["phase"].notna().sum()
    (missing,) = [r for r in left_out(report) if r.heading == "Not fitted"]
    assert missing.text.startswith(f"{(~report.layers['valid']).sum()} of {len(report.layers)}")
    assert any("not better" in remark.text for remark in caveats(report))


def test_the_reading_says_where_a_power_law_is_not_the_best(report):
    layers = report.layers.assign(p_value=0.5, best_distribution="power_law")
    other = dataclasses.replace(report, layers=layers)
    said = {remark.heading: remark.text for remark in caveats(other)}
    assert "0 have p" in said["Goodness of fit"]
    assert "Other distributions" not in said
    layers.loc[layers["name"] == EVIL + "/kernel", "best_distribution"] = "truncated_power_law"
    said = {remark.heading: remark.text for remark in caveats(other)}
    assert "describes 1 better" in said["Other distributions"]
    assert "truncated power law (1)" in said["Other distributions"]


def test_reasons_that_differ_in_numbers_are_one():
    reasons = [
        "7 left; a fit needs 10",
        "9 left; a fit needs 10",
        "zero",
        "7.5e-3 left; a fit needs 10",
    ]
    assert fold(reasons) == [("7.5e-3 to 9 left; a fit needs 10", 3), ("zero", 1)]
    assert fold(["alpha 8 from 12", "alpha 9 from 11"]) == [("alpha 8 to 9 from 11 to 12", 2)]


def test_the_table_fits_80_characters_and_folds_slices(report):
    def lines(*, every_matrix):
        console = Console(width=80)
        with console.capture() as captured:
            show(report, console, every_matrix=every_matrix)
        return captured.get().splitlines()

    folded, every = lines(every_matrix=False), lines(every_matrix=True)
    assert max(map(len, folded + every)) <= 80
    assert sum("conv" in line for line in folded) == 1
    assert any("conv" in line and "4 of 60x80" in line for line in folded)
    assert sum("60x80" in line for line in every) == 4


def test_the_script_runs_in_a_browser(page, tmp_path):
    """Its hash is the one that the page allows, and it fills in what only it can."""
    browsers = ("chromium", "chromium-browser", "google-chrome")
    browser = next(filter(None, map(shutil.which, browsers)), None)
    if browser is None:
        pytest.skip(f"needs one of {', '.join(browsers)}")
    path = tmp_path / "page.html"
    path.write_text(page, encoding="utf-8")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "5 of 5 layers" in done.stdout
    assert 'aria-label="enlarge the spectrum"' in done.stdout
