"""The payer's home on a slow phone: what it loads, and when it can be used; of a wallet that is running.

Real throttling in Chromium, with the numbers of Lighthouse's phone: 150 ms a round trip, 1.6 Mbit/s down, 0.75 up, a
processor four times slower. First visit, and the visits after it, which find style and scripts in the browser's cache.
Interactive: drawn, scripts run, and no task of more than 50 ms after that.
"""

import statistics
from typing import TYPE_CHECKING, Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_NETWORK = {"offline": False, "latency": 150, "downloadThroughput": 1.6e6 / 8, "uploadThroughput": 0.75e6 / 8}
_SLOWER = 4
_LOADED = """() => new Promise((resolve) => {
  let last = 0;
  new PerformanceObserver((list) => {
    for (const { startTime, duration } of list.getEntries()) last = Math.max(last, startTime + duration);
  }).observe({ type: "longtask", buffered: true });
  setTimeout(() => {
    const [page] = performance.getEntriesByType("navigation");
    const [painted] = performance.getEntriesByName("first-contentful-paint");
    const all = [page, ...performance.getEntriesByType("resource")];
    resolve({
      painted: painted.startTime,
      interactive: Math.max(painted.startTime, page.domContentLoadedEventEnd, last),
      answered: page.responseStart,
      sent: all.reduce((sum, { transferSize }) => sum + transferSize, 0),
    });
  }, 1500);
})"""


def pages(
    url: Annotated[str, typer.Option(help="Where the wallet's pages are, such as http://localhost:8000.")],
    currency: str = "EUR",
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    chromium: str = "/usr/bin/chromium",
) -> None:
    """Measure the payer's home on a throttled phone."""
    from playwright.sync_api import sync_playwright  # a tool of developers: the command line starts without it

    token = httpx.post(f"{url}/v1/payers", json={"currency": currency}).raise_for_status().json()["token"]
    seen: dict[str, list[dict[str, float]]] = {"first visit": [], "later visits": []}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for _ in range(rounds):
            first, later = _visited(browser, url, token)
            seen["first visit"].append(first)
            seen["later visits"].append(later)
        browser.close()
    table = Table("payer's home", "kB over the wire", "answered, ms", "drawn, ms", "interactive, ms")
    for name, found in seen.items():
        median = {key: statistics.median(one[key] for one in found) for key in found[0]}
        times = [f"{median[key]:.0f}" for key in ("answered", "painted", "interactive")]
        table.add_row(name, f"{median['sent'] / 1000:.1f}", *times)
    Console().print(table)


def _visited(browser: "Browser", url: str, token: str) -> tuple[dict[str, float], dict[str, float]]:
    context = browser.new_context(viewport={"width": 412, "height": 823}, device_scale_factor=1.75, base_url=url)
    signing = {"form": {"token": token}, "headers": {"Origin": url, "Sec-Fetch-Site": "same-origin"}}
    context.request.post("/app/sign-in/token", **signing)  # type: ignore[arg-type]
    page = context.new_page()
    devtools = context.new_cdp_session(page)
    devtools.send("Network.enable")
    devtools.send("Network.emulateNetworkConditions", _NETWORK)
    devtools.send("Emulation.setCPUThrottlingRate", {"rate": _SLOWER})
    found: list[Any] = []
    for _ in range(2):
        page.goto("/app/")
        found.append(page.evaluate(_LOADED))
    context.close()
    return found[0], found[1]


if __name__ == "__main__":
    typer.run(pages)
