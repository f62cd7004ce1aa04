"""A browser without a window: Chromium, led by Selenium.

    with Chromium(folder, width=390, dark=True) as browser:
        browser.get(url)
        browser.text("clusters")
"""

import base64
import os
import shutil
import time

import pytest

# WCAG 2.1, 1.4.3: how much text stands out from what is behind it. All texts that are seen, and
# the least ratio of each pair of colours.
CONTRASTS = """
const luminance = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const numbers = (text) => text.match(/[0-9.]+/g).map(Number);
const behind = (element) => {
    for (; element; element = element.parentElement) {
        const colour = numbers(getComputedStyle(element).backgroundColor);
        if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return matchMedia("(prefers-color-scheme: dark)").matches ? [0, 0, 0] : [255, 255, 255];
};
const found = {};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility()) continue;
    const [ink, paper] = [numbers(getComputedStyle(element).color), behind(element)];
    const [light, dark] = [luminance(ink), luminance(paper)].sort((a, b) => b - a);
    found[`${ink} on ${paper}: ${walker.currentNode.data.trim().slice(0, 30)}`] = (light + 0.05) / (dark + 0.05);
}
return found;
"""

# What a screen reader needs, of what we use.
FAULTS = """
const faults = [];
const name = (e) => e.outerHTML.slice(0, 80);
if (!document.documentElement.lang) faults.push("no language");
if (!document.title) faults.push("no title");
if (document.querySelectorAll("main").length !== 1) faults.push("not one main");
if (document.querySelectorAll("h1").length !== 1) faults.push("not one h1");
const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
if (new Set(ids).size !== ids.length) faults.push("an id twice");
let level = 0;
document.querySelectorAll("h1, h2, h3, h4").forEach((e) => {
    if (+e.tagName[1] > level + 1) faults.push("a level is left out: " + name(e));
    level = +e.tagName[1];
});
document.querySelectorAll("th").forEach((e) => { if (!e.scope) faults.push("no scope: " + name(e)); });
document.querySelectorAll("svg, img").forEach((e) => {
    if (e.getAttribute("aria-hidden") !== "true" && !e.getAttribute("aria-label") && !e.alt)
        faults.push("no text: " + name(e));
});
document.querySelectorAll("[tabindex], [role=region]").forEach((e) => {
    if (!e.getAttribute("role") || !e.getAttribute("aria-label")) faults.push("no name: " + name(e));
});
document.querySelectorAll("button, a, input, select").forEach((e) => {
    const text = e.textContent.trim() || e.getAttribute("aria-label") || e.value || (e.labels && e.labels.length);
    if (e.type !== "hidden" && !text) faults.push("no name: " + name(e));
});
return faults;
"""


class Chromium:
    def __init__(self, folder, width=1280, height=900, dark=False, javascript=True):
        webdriver = pytest.importorskip("selenium.webdriver", reason="Selenium is not installed")
        exceptions = pytest.importorskip("selenium.common.exceptions")
        program, driver = shutil.which("chromium"), shutil.which("chromedriver")
        if program is None or driver is None:
            pytest.skip("Chromium and its driver are not installed")
        options = webdriver.ChromeOptions()
        options.binary_location = program
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                         "--hide-scrollbars", f"--user-data-dir={os.path.join(folder, 'chromium')}"):
            options.add_argument(argument)
        if not javascript:
            options.add_experimental_option(
                "prefs", {"profile.managed_default_content_settings.javascript": 2})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(
            options=options, service=webdriver.chrome.service.Service(driver))
        self.driver.set_page_load_timeout(60)
        self.changed = (exceptions.StaleElementReferenceException, exceptions.NoSuchElementException)
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": False})
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]})

    def get(self, url):
        self.driver.get(url)

    def do(self, script):
        return self.driver.execute_script(script)

    def text(self, element):
        """What a reader sees of the element with this id; the page may be loaded anew
        meanwhile."""
        while True:
            try:
                return self.driver.find_element("id", element).text
            except self.changed:
                time.sleep(0.01)  # the test has a limit

    def screenshot(self, path):
        """Of the whole page."""
        size = self.driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        picture = self.driver.execute_cdp_cmd("Page.captureScreenshot", {
            "captureBeyondViewport": True,
            "clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}})
        with open(path, "wb") as file:
            file.write(base64.b64decode(picture["data"]))

    def complaints(self):
        """Of the browser, about the page: errors of scripts, what the policy forbids."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def close(self):
        self.driver.quit()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
