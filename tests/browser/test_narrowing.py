"""Questions that are made narrower: by hits that others are to be like, or not, and to a part."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Page, expect

from cluster.service.http.answers import image_id
from tests.browser.visitor import Visitor
from tests.conftest import QUERIES
from tests.service import Service

FISH = QUERIES / "fish.jpg"
SHOWN = 24


def asked(page: Page) -> dict[str, str]:
    """The question in the address."""
    return {name: value for name, [value] in parse_qs(urlsplit(page.url).fragment).items()}


def answered(service: Service, **body: Any) -> list[str]:
    answer = service.post("/v1/search", json={"n": SHOWN} | body)
    answer.raise_for_status()
    return [hit["uri"] for hit in answer.json()["hits"]]


def seen(visitor: Visitor) -> list[str]:
    return [uri for uri, _ in visitor.sees(SHOWN)]


def open_part(page: Page) -> None:
    """Open the dialog, and wait until its picture can be seen."""
    page.get_by_role("button", name="Search by a").click()
    page.wait_for_function("() => document.querySelector('#part-stage img')?.naturalWidth > 0")
    expect(page.get_by_role("dialog")).to_be_visible()


def search_by_the_first_hit(visitor: Visitor, service: Service) -> str:
    """Search by an indexed image; its id."""
    visitor.page.goto(service.url)
    visitor.drop(FISH)
    visitor.sees(SHOWN)
    visitor.page.get_by_role("list").get_by_role("link").first.click()
    expect(visitor.page.locator("[aria-current=true]")).to_have_count(1)
    visitor.sees(SHOWN)
    return asked(visitor.page)["id"]


def test_more_and_less_like_hits(visitor: Visitor, service: Service) -> None:
    page = visitor.page
    own = search_by_the_first_hit(visitor, service)
    before = seen(visitor)
    liked, unliked = page.locator("#gallery li").nth(3), page.locator("#gallery li").nth(9)
    liked.hover()
    liked.get_by_role("button", name="More like").click()
    expect(page.locator("#examples button")).to_have_count(1)
    expected = {"like": [{"id": own}, {"id": image_id(before[3])}]}
    assert seen(visitor) == answered(service, **expected)
    assert before[3] not in seen(visitor)
    middle = seen(visitor)
    # By keys alone, as by pointer.
    unliked.get_by_role("link").focus()
    page.keyboard.press("-")
    expect(page.locator("#examples button")).to_have_count(2)
    assert asked(page)["unlike"] == image_id(middle[9])
    both = expected | {"unlike": [{"id": image_id(middle[9])}]}
    assert seen(visitor) == answered(service, **both)
    visitor.meets_no_barrier()
    page.go_back()
    expect(page.locator("#examples button")).to_have_count(1)
    assert seen(visitor) == middle
    page.get_by_role("button", name="More like this (1): take it away").click()
    expect(page.locator("#examples")).to_be_hidden()
    assert seen(visitor) == before


def test_a_file_and_a_hit(visitor: Visitor, service: Service) -> None:
    page = visitor.page
    page.goto(service.url)
    visitor.drop(FISH)
    before = seen(visitor)
    page.locator("#gallery li").nth(5).get_by_role("link").focus()
    page.keyboard.press("+")
    expect(page.locator("#examples button")).to_have_count(1)
    image = base64.b64encode(FISH.read_bytes()).decode()
    # The page sends the picture smaller, so the last of many may be others.
    expected = answered(service, like=[{"image": image}, {"id": image_id(before[5])}])
    found = seen(visitor)
    assert found[:3] == expected[:3]
    assert len(set(found) & set(expected)) >= SHOWN - 4


def test_a_part_by_keys_and_by_pointer(visitor: Visitor, service: Service) -> None:
    page = visitor.page
    page.goto(service.url)
    visitor.drop(FISH)
    whole = seen(visitor)
    open_part(page)
    visitor.meets_no_barrier(rules=10)
    for keys in ("ArrowRight", "ArrowUp", "Shift+ArrowLeft", "Shift+ArrowDown", "Enter"):
        page.keyboard.press(keys)
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.get_by_role("button", name="Search by another part")).to_be_visible()
    crop = asked(page)["crop"]
    image = base64.b64encode(FISH.read_bytes()).decode()
    assert seen(visitor) == answered(service, image=image, crop=crop)
    assert [round(float(share), 2) for share in crop.split(",")] == [0.27, 0.23, 0.48, 0.52]

    open_part(page)
    box = page.locator("#part-stage img").bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] * 0.1, box["y"] + box["height"] * 0.2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.9, steps=4)
    page.mouse.up()
    with page.expect_response("**/v1/search*"):
        page.get_by_role("button", name="Search by this part").click()
    drawn = [float(share) for share in asked(page)["crop"].split(",")]
    assert all(
        abs(one - other) < 0.02 for one, other in zip(drawn, (0.1, 0.2, 0.5, 0.7), strict=True)
    )
    assert seen(visitor) == answered(service, image=image, crop=asked(page)["crop"])

    open_part(page)
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert "crop" in asked(page)
    open_part(page)
    page.get_by_role("button", name="By the whole image").click()
    expect(page.get_by_role("button", name="Search by a part")).to_be_visible()
    assert seen(visitor) == whole


def test_a_part_of_an_indexed_image(visitor: Visitor, service: Service) -> None:
    search_by_the_first_hit(visitor, service)
    open_part(visitor.page)
    with visitor.page.expect_response("**/v1/search*"):
        visitor.page.keyboard.press("Enter")
    found = seen(visitor)
    assert all("/fish/" in uri for uri in found[:3])


def test_a_hit_is_shown_at_large(visitor: Visitor, service: Service) -> None:
    page = visitor.page
    own = search_by_the_first_hit(visitor, service)
    hits = visitor.sees(SHOWN)
    names = [uri.rpartition("/")[2] for uri, _ in hits]
    hit = page.locator("#gallery li").nth(3)
    hit.hover()
    hit.get_by_role("button", name="Details of").click()
    expect(page.get_by_role("heading", name=names[3])).to_be_visible()
    expect(page.locator("#details-place")).to_have_text(f"4 of {SHOWN}")
    expect(page.locator("#details-facts dd").first).to_have_text(hits[3][1])
    page.wait_for_function("() => document.getElementById('details-picture').naturalWidth > 0")
    visitor.meets_no_barrier()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("heading", name=names[4])).to_be_visible()
    expect(page.locator("#details-facts dd").first).to_have_text(hits[4][1])

    # It is in the address, and goes away as it came.
    page.reload()
    expect(page.get_by_role("heading", name=names[4])).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert asked(page) == {"id": own}
    assert visitor.sees(SHOWN) == hits
    page.go_back()
    expect(page.get_by_role("heading", name=names[4])).to_be_visible()
    page.get_by_role("link", name="Similar images").click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    visitor.asked_by(names[4])

    # By keys: the page asks for its own image, too.
    page.locator("#gallery a").first.focus()
    page.keyboard.press("i")
    expect(page.get_by_role("heading", name=names[4])).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.locator("#gallery a").first).to_be_focused()
