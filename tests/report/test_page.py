"""The page of a scan in a browser: headless Chromium, driven by ChromeDriver, where both are installed."""

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

from command import CLEAN, FIXTURES, run

CLASSES, SIDE, TARGET = 1000, 8, 7
HOSTILE = "<img src=x onerror=\"document.title='owned'\"></script><script>document.title='owned'</script>"


def thousand_classes(folder: Path) -> Path:
    """A linear model that takes an image for class 7 where its first pixel is bright, with a hostile name for class 3."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(SIDE * SIDE, CLASSES)).astype(np.float32)
    weights[0, TARGET] = 400
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["input"], ["pixels"]), helper.make_node("MatMul", ["pixels", "w"], ["logits"])],
        "linear",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n", 1, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", CLASSES])],
        [numpy_helper.from_array(weights, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), folder / "model.onnx")
    names = {str(i): f"class number {i}" for i in range(CLASSES)} | {"3": HOSTILE}
    (folder / "config.json").write_text(json.dumps({"id2label": names}))
    images = rng.integers(0, 256, size=(100, 1, SIDE, SIDE), dtype=np.uint8)
    images[:, :, 0, 0] = 0
    np.savez(folder / "clean.npz", x=images)
    return folder / "model.onnx"


@pytest.fixture(scope="module")
def chromium():
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (browser and driver):
        pytest.skip("no chromium and chromedriver on the path: the page was not opened in a browser")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    flags = ["headless", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking", "disable-sync"]
    flags += ["disable-component-update", "force-prefers-reduced-motion"]
    for flag in [*flags, "window-size=1100,1000"]:
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    session = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield session
    session.quit()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    out = tmp_path_factory.mktemp("small")
    run("scan", FIXTURES / "fmnist_badnets.onnx", *CLEAN, "--out", out, status=1)
    return out / "report.html"


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    model = thousand_classes(folder)
    run("scan", model, "--data", folder / "clean.npz", "--scale", "0.004", "--steps", 10, "--out", folder / "scan")
    return folder / "scan" / "report.html"


def opened(chromium, page: Path):
    chromium.get(page.as_uri())
    assert chromium.get_log("browser") == []
    return chromium


def visible_rows(chromium):
    return [row for row in chromium.find_elements(By.CSS_SELECTOR, ".sortable tbody tr") if row.is_displayed()]


def column(chromium, index: int) -> list[str]:
    script = "return [...document.querySelectorAll('.sortable tbody tr')].map(row => row.cells[arguments[0]].textContent)"
    return chromium.execute_script(script, index)


def test_the_verdict_comes_first_and_the_flagged_class_is_shown(chromium, small):
    page = opened(chromium, small)
    assert page.find_element(By.TAG_NAME, "h1").text == "This model is backdoored"
    assert "class 7 has a trigger" in page.find_element(By.CLASS_NAME, "reason").text.lower()
    flagged = page.find_element(By.CSS_SELECTOR, "section.flagged")
    assert "class 7" in flagged.text and flagged.is_displayed()
    pictures = flagged.find_elements(By.TAG_NAME, "img")
    assert len(pictures) == 3 + 2 * 6
    assert all(page.execute_script("return arguments[0].naturalWidth", picture) == 28 for picture in pictures)
    bars = page.find_elements(By.CSS_SELECTOR, ".plot .bar rect")
    assert len(bars) == 10
    assert min(bars, key=lambda bar: bar.size["height"]) == page.find_element(By.CSS_SELECTOR, ".bar.flagged rect")


def test_a_thousand_classes_are_sorted_by_mouse_and_keyboard(chromium, large):
    page = opened(chromium, large)
    assert column(page, 0) == [str(i) for i in range(CLASSES)]
    norm = page.find_elements(By.CSS_SELECTOR, ".sortable th button")[2]
    norm.click()
    ascending = [float(text) for text in column(page, 2)]
    assert ascending == sorted(ascending) and len(set(ascending)) > 10
    norm.send_keys(Keys.ENTER)
    assert [float(text) for text in column(page, 2)] == sorted(ascending, reverse=True)
    assert page.find_elements(By.CSS_SELECTOR, "th[aria-sort]")[0].text.startswith("L1 norm")


def test_classes_are_found_by_name_and_by_state(chromium, large):
    page = opened(chromium, large)
    find = page.find_element(By.ID, "find")
    find.send_keys("number 99")
    assert [row.text.split()[0] for row in visible_rows(page)] == ["99", *map(str, range(990, 1000))]
    assert page.find_element(By.ID, "count").text == "11 of 1000"
    find.clear()
    state = Select(page.find_element(By.ID, "state"))
    counts = {}
    for name in ("flagged", "not flagged", "not converged", "all"):
        state.select_by_visible_text(name)
        counts[name] = int(page.find_element(By.ID, "count").text.split()[0])
    assert counts.pop("all") == CLASSES == sum(counts.values())
    assert counts["not converged"] > 0


def test_a_hostile_name_is_only_text(chromium, large):
    page = opened(chromium, large)
    assert "owned" not in page.title
    assert HOSTILE in column(page, 1)[3]
    assert page.find_elements(By.CSS_SELECTOR, "img[src='x']") == []
    assert large.stat().st_size < 4_000_000


@pytest.mark.parametrize("width", [360, 1100])
def test_nothing_is_wider_than_the_screen(chromium, small, large, width):
    for report in (small, large):
        chromium.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        )
        page = opened(chromium, report)
        assert page.execute_script("return document.documentElement.scrollWidth") <= width
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_every_picture_chart_and_control_has_a_name(chromium, small):
    page = opened(chromium, small)
    nameless = """
        const named = (e) => e.alt || e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') || e.closest('label, [aria-hidden]');
        return [...document.querySelectorAll('img, svg[role=img], input, select, [role=region]')].filter((e) => !named(e)).length
    """
    assert page.execute_script(nameless) == 0
    headings = [int(e.tag_name[1]) for e in page.find_elements(By.CSS_SELECTOR, "h1, h2, h3")]
    assert headings[0] == 1 and headings.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(headings, headings[1:]))
