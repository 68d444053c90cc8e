// The view that shows all images of a collection: in an order, by folder, label, date and filter.

import { chosen } from "./controls.js";
import { makeGrid } from "./grid.js";
import * as loader from "./loader.js";
import { makePages } from "./pages.js";
import { readable } from "./question.js";
import { browse, facets, thumbnailPath } from "./service.js";
import { texts } from "./texts.js";
import { report, viewAddress } from "./views.js";

const at = (id) => document.getElementById(id);
const say = texts.browse;

// What makes another list; `at` and `open` only say where in it one is.
const LIST = ["collection", "order", "where", "label", "prefix"];
const ORDER = "newest";
// Milliseconds after which the address says where one has scrolled to; between two looks at what
// there is while images come and go.
const SETTLED = 300;
const RECOUNT = 5000;

let list = null;
let grid = null;
let settling = 0;
let details = null;

/** The view, as `views.register` takes it. */
export const view = {
  async enter(parameters, { signal }) {
    document.title = texts.title(say.title);
    const asked = Object.fromEntries(LIST.map((name) => [name, parameters[name]]));
    const place = Math.trunc(Number(parameters.at)) || 0;
    if (list?.key !== JSON.stringify(asked)) {
      begin(asked, place);
      showAsked(asked);
    }
    if (parameters.open) {
      // Many look around, and open nothing.
      details ??= await import("./details.js");
      const image = { id: parameters.open, collection: asked.collection, signal };
      await (signal.aborted || details.showDetails(neighbourhood(place), image));
    } else {
      details?.closeDetails();
    }
  },
  leave() {
    details?.closeDetails();
    clearTimeout(settling);
    list?.pages.close();
    list = null;
    grid?.resize(0);
  },
};

function begin(asked, place) {
  list?.pages.close();
  grid ??= makeGrid(at("grid"), { tile, leave, seen, open });
  const mine = { key: JSON.stringify(asked), asked, place, months: [], counted: 0 };
  const current = () => list === mine;
  mine.pages = makePages((offset, n, { signal }) => browse({ ...asked, offset, n }, { signal }), {
    came: (first, end) => current() && fill(first, end),
    total: (total) => current() && showTotal(total),
    changed: () => current() && count(mine),
    failed: (error) => current() && showFailure(error),
    waiting: () => current() && tell(say.waiting),
  });
  list = mine;
  at("trouble").replaceChildren();
  tell(say.loading);
  grid.resize(0);
  at("dates").replaceChildren();
  mine.pages.want(place, place + 1);
  count(mine);
}

// The tiles

function tile(index) {
  const element = document.createElement("div");
  element.className = "tile";
  const picture = document.createElement("img");
  picture.alt = "";
  picture.draggable = false;
  element.append(picture);
  dress(element, index);
  return element;
}

function dress(element, index) {
  const image = list?.pages.at(index);
  element.setAttribute("aria-label", image ? describe(image) : say.unknown);
  if (!image || element.dataset.id === image.id) {
    return;
  }
  element.dataset.id = image.id;
  element.title = readable(image.uri).name;
  loader.show(element.firstChild, thumbnailPath(image.id, list.asked.collection, image.version));
}

function describe({ uri, label, date }) {
  return [readable(uri).name, label, date && say.date(date)].filter(Boolean).join(", ");
}

function leave(element) {
  loader.stop(element.firstChild);
}

function fill(first, end) {
  for (const [index, element] of grid.tiles) {
    if (index >= first && index < end) {
      dress(element, index);
    }
  }
  showMonth();
}

function seen(first, end) {
  if (!list) {
    return;
  }
  if (end > first) {
    list.pages.want(first, end);
  }
  showMonth();
  clearTimeout(settling);
  settling = setTimeout(settle, SETTLED);
}

/** Say in the address where one is, so that it can be gone back to. */
function settle() {
  if (list && list.pages.total && !at("details").open) {
    const place = grid.first();
    history.replaceState(null, "", viewAddress("browse", { ...list.asked, at: place || undefined }));
  }
}

function open(index) {
  const image = list.pages.at(index);
  if (image) {
    location.hash = viewAddress("browse", { ...list.asked, at: index, open: image.id });
  }
}

/** What is before and behind an image in this list, for the details. */
function neighbourhood(place) {
  const mine = list;
  let index = place;
  return {
    total: () => mine.pages.total,
    index: () => index,
    /** The image that is so many places away. */
    async move(by) {
      const image = await mine.pages.get(index + by);
      if (image && list === mine) {
        index += by;
        grid.choose(index);
        history.replaceState(null, "", viewAddress("browse", { ...mine.asked, at: index, open: image.id }));
      }
      return image;
    },
    here: () => mine.pages.get(index),
    close() {
      location.hash = viewAddress("browse", { ...mine.asked, at: index || undefined });
      at("grid").focus({ preventScroll: true });
    },
  };
}

// What is said of the list

function showTotal(total) {
  const first = list.place;
  list.place = 0;
  tell(total ? say.count(total) : say.nothing(Boolean(list.asked.where || list.asked.label || list.asked.prefix)));
  at("grid").hidden = total === 0;
  if (first) {
    grid.resize(total, { index: first });
  } else {
    grid.resize(total);
  }
}

function tell(text) {
  at("browse-count").textContent = text;
}

function showFailure(error) {
  tell("");
  if (error.status === 422 && list.asked.where) {
    at("browse-where").setAttribute("aria-invalid", "true");
  }
  at("grid").hidden = true;
  report(error);
}

// What kinds there are

async function count(mine) {
  const now = Date.now();
  if (now - mine.counted < RECOUNT) {
    return;
  }
  mine.counted = now;
  try {
    const found = await facets({ ...mine.asked, order: undefined });
    const { folders, labels, months } = found;
    const said = JSON.stringify([folders, labels, months]);
    // What is shown already stays: somebody may be about to click it.
    if (list === mine && said !== mine.counts) {
      mine.counts = said;
      showFolders(folders);
      showLabels(labels);
      showDates(months);
    }
  } catch {
    // The list itself says what is wrong.
    mine.counted = 0;
  }
}

function showFolders(folders) {
  const common = path(commonFolder(folders.map(({ value }) => value)));
  const chosenOne = list.asked.prefix;
  const known = folders.map(({ value, count: images }) => ({ text: path(value).slice(common.length), value, images }));
  if (chosenOne && !folders.some(({ value }) => value === chosenOne)) {
    known.push({ text: path(chosenOne), value: chosenOne, images: null });
  }
  known.sort((one, other) => one.text.localeCompare(other.text, "en", { numeric: true }));
  at("folders").replaceChildren(...known.map(({ text, value, images }) => facet(text, value, images, "prefix")));
  at("folders-field").hidden = known.length < 2 && !chosenOne;
}

/** A folder as a person reads it. */
function path(folder) {
  const { name, place } = readable(folder);
  return place + name;
}

/** The folder that all are in. */
function commonFolder(folders) {
  let common = folders[0] ?? "";
  while (common && !folders.every((folder) => folder.startsWith(common) && folder !== common)) {
    common = common.slice(0, common.slice(0, -1).lastIndexOf("/") + 1);
  }
  return common;
}

function showLabels(labels) {
  at("labels-list").replaceChildren(...labels.map(({ value, count: images }) => facet(value, value, images, "label")));
  at("labels-field").hidden = !labels.length;
}

function facet(text, value, images, field) {
  const item = document.createElement("li");
  const link = document.createElement("a");
  const name = document.createElement("bdi");
  name.textContent = text || say.emptyLabel;
  link.append(name);
  link.title = text;
  if (images !== null) {
    const number = document.createElement("span");
    number.textContent = images.toLocaleString("en");
    link.append(number);
  }
  const isChosen = list.asked[field] === value;
  if (isChosen) {
    link.setAttribute("aria-current", "true");
    link.title = say.takeAway(text);
  }
  link.href = viewAddress("browse", { ...list.asked, [field]: isChosen ? undefined : value });
  item.append(link);
  return item;
}

// The dates: a list to jump by, and the years beside the grid

function showDates(months) {
  const byDate = (list.asked.order ?? ORDER) !== "name";
  const total = months.reduce((sum, month) => sum + month.count, 0);
  const backwards = list.asked.order === "oldest";
  let before = backwards ? list.pages.total : 0;
  list.months = months.map(({ value, count: images }) => {
    before -= backwards ? images : 0;
    const month = { value, images, first: before };
    before += backwards ? 0 : images;
    return month;
  });
  at("date-field").hidden = !byDate || !total;
  at("dates").hidden = !byDate || !total;
  const inOrder = backwards ? list.months.toReversed() : list.months;
  at("date").replaceChildren(
    ...inOrder.map(({ value, images, first }) => new Option(say.month(value, images), String(first))),
  );
  const years = new Map();
  for (const { value, first } of inOrder) {
    if (!years.has(value.slice(0, 4))) {
      years.set(value.slice(0, 4), first);
    }
  }
  at("dates").replaceChildren(...[...years].map(([year, first]) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = year;
    button.addEventListener("click", () => grid.go(first));
    return button;
  }));
  list.shown = undefined;
  showMonth();
}

function showMonth() {
  const first = list?.pages.at(grid.first());
  const value = first?.date?.slice(0, 7);
  if (!list || value === list.shown || at("dates").hidden) {
    return;
  }
  list.shown = value;
  const month = list?.months.find((one) => one.value === value);
  if (month && document.activeElement !== at("date")) {
    at("date").value = String(month.first);
  }
  for (const button of at("dates").children) {
    button.classList.toggle("here", button.textContent === value?.slice(0, 4));
  }
}

// The controls

function showAsked({ order, where }) {
  at("order").value = order ?? ORDER;
  at("browse-where").value = where ?? "";
  at("browse-where").removeAttribute("aria-invalid");
}

function change() {
  const order = at("order").value;
  const where = at("browse-where").value.trim();
  location.hash = viewAddress("browse", {
    ...list?.asked,
    collection: chosen().collection,
    order: order === ORDER ? undefined : order,
    where: where || undefined,
  });
}

for (const field of ["folders-field", "labels-field"]) {
  at(field).open = matchMedia("(min-width: 56rem)").matches;
}
at("browse-controls").addEventListener("submit", (event) => {
  event.preventDefault();
  change();
});
at("order").addEventListener("change", change);
at("browse-where").addEventListener("change", change);
at("date").addEventListener("change", () => grid.go(Number(at("date").value)));
