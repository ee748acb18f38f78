"""Takes the pictures of the README from a running Gnomon, light and dark.

    python docs/screenshots.py http://127.0.0.1:8000 --user admin --run 42

The password comes from the variable GNOMON_PASSWORD. Without --run it shows the newest
run. Needs Playwright (requirements-dev.txt) and a Chromium ($CHROMIUM).
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, sync_playwright

IMAGES = Path(__file__).resolve().parent / "images"
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
SIZE = 1440, 900


def main() -> None:
    arguments = parse()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        take(browser, arguments, "light")
        take(browser, arguments, "dark")
        browser.close()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "url", help="where Gnomon answers, such as http://127.0.0.1:8000"
    )
    parser.add_argument("--user", default="admin")
    parser.add_argument(
        "--run", type=int, help="the run to show; the newest if not given"
    )
    parser.add_argument(
        "--out", type=Path, default=IMAGES, help="folder of the pictures"
    )
    return parser.parse_args()


def take(
    browser: Browser, arguments: argparse.Namespace, theme: Literal["light", "dark"]
) -> None:
    width, height = SIZE
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=theme
    )
    page = context.new_page()
    sign_in(page, arguments.url, arguments.user)
    admin = f"{arguments.url}/admin/tasks_app"
    page.goto(f"{admin}/task/")
    shoot(page, arguments.out / f"tasks_{theme}.png")
    page.goto(f"{admin}/taskrun/" + (f"{arguments.run}/" if arguments.run else ""))
    if not arguments.run:
        page.locator("tbody a.gn-name").first.click()
    page.locator("[data-lines]").wait_for()
    shoot(page, arguments.out / f"run_{theme}.png")
    context.close()


def sign_in(page: Page, url: str, user: str) -> None:
    page.goto(f"{url}/admin/")
    page.fill("#id_username", user)
    page.fill("#id_password", os.environ["GNOMON_PASSWORD"])
    page.press("#id_password", "Enter")
    page.wait_for_url(f"{url}/admin/")


def shoot(page: Page, path: Path) -> None:
    page.wait_for_load_state("networkidle")
    page.screenshot(path=path)


if __name__ == "__main__":
    main()
