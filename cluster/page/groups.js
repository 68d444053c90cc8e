// A group of duplicates side by side: what tells them apart is marked.

import { readable } from "./question.js";
import { thumbnailPath } from "./service.js";
import { texts } from "./texts.js";
import { showPreview } from "./thumbnails.js";

const said = texts.duplicates;

/** What is decided of an image: "keep", "remove", "apart", or what else there is to say. */
export function stateOf(image) {
  if (image.state !== "there") {
    return image.state;
  }
  return image.decided ?? (image.protected ? "protected" : image.keep ? "suggested" : "other");
}

/** The images of a group that are duplicates of each other still. */
export function activeOf({ images }) {
  const left = images.filter(({ state, decided }) => state === "there" && decided !== "apart");
  return left.length > 1 ? left : [];
}

/** Whether nothing is left to decide about a group. */
export function isSettled(group) {
  const left = activeOf(group).filter(({ decided }) => decided !== "remove");
  return left.length < 2 || left.every((image) => image.decided === "keep" || image.protected);
}

/** Which image of a group to begin with: the one that is kept. */
export function suggested({ images }) {
  const active = images.filter(({ state, decided }) => state === "there" && decided !== "apart");
  return Math.max(0, images.indexOf(active.find(({ keep }) => keep) ?? active[0]));
}

export function nameOf(image) {
  return readable(image.uri).name || image.uri;
}

/**
 * The cards of a group, `<li>` each; pictures load at once, so that they are there when it is shown.
 *
 * @param {object} group `{number, images}`
 * @param {object} of what `collection`, whether there is anything to decide (`writable`), and a
 *   `signal` that is aborted when it is not shown any more
 */
export function cardsOf(group, { collection, writable, signal }) {
  const rows = factsOf(group.images);
  return group.images.map((image, place) => {
    const item = card(image, place, rows, { collection, writable, signal });
    showState(item, image, group);
    return item;
  });
}

/** Show on the card of an image of a group what is decided by now. */
export function showState(item, image, { images }) {
  const allApart = image === images[0] && images.slice(1).every(({ decided }) => decided === "apart");
  const state = stateOf(image);
  item.dataset.state = state;
  item.querySelector(".state").textContent = said.states[state];
  for (const button of item.querySelectorAll("[data-act]")) {
    button.setAttribute("aria-pressed", button.dataset.act === (allApart ? "apart" : image.decided));
    button.disabled = image.state !== "there" || (image.protected && button.dataset.act !== "apart");
  }
  item.firstElementChild.setAttribute("aria-label", `${nameOf(image)}: ${said.states[state]}`);
}

function card(image, place, rows, { collection, writable, signal }) {
  const frame = element("span", "frame");
  const picture = element("img");
  picture.alt = "";
  picture.draggable = false;
  if (image.state === "gone") {
    picture.className = "missing";
  } else {
    showPreview(picture, thumbnailPath(image.id, collection), { signal });
  }
  frame.append(picture, element("span", "state"));

  const { name, place: folder } = readable(image.uri);
  const title = element("bdi", "name", name || image.uri);
  title.title = image.uri;
  const choice = element("div", "choice");
  choice.tabIndex = place ? -1 : 0;
  choice.setAttribute("role", "group");
  choice.append(frame, title, table(rows, place, folder));

  const item = element("li");
  item.dataset.place = place;
  item.append(choice);
  if (writable) {
    item.append(buttons(image));
  }
  return item;
}

function buttons(image) {
  const row = element("div", "row acts");
  for (const [act, name] of [["keep", said.keep], ["remove", said.removeOne], ["apart", said.apart]]) {
    const button = element("button", "", name);
    button.dataset.act = act;
    button.setAttribute("aria-label", `${name}: ${nameOf(image)}`);
    row.append(button);
  }
  return row;
}

// What is known of them: for each fact the texts, whether they differ, and what is said of the best

function factsOf(images) {
  const facts = images.map((image) => image.facts);
  const pixels = facts.map(({ width, height }) => (width && height ? width * height : 0));
  const dates = facts.map(({ date }) => date ?? "");
  const known = [...new Set(dates.filter(Boolean))].sort();
  return [
    {
      name: said.facts.size,
      texts: facts.map(({ width, height }) => (width && height ? said.pixels(width, height) : "")),
      best: bestOf(pixels, said.best.size),
    },
    {
      name: said.facts.bytes,
      texts: facts.map(({ bytes }) => (bytes ? said.bytes(bytes) : "")),
      best: bestOf(facts.map(({ bytes }) => bytes ?? 0), said.best.bytes),
    },
    { name: said.facts.format, texts: facts.map(({ format }) => format ?? "") },
    {
      name: said.facts.date,
      texts: dates.map((date) => date.replace("T", " ")),
      best: dates.map((date) => {
        if (known.length < 2) {
          return "";
        }
        return date === known[0] ? said.best.oldest : date === known.at(-1) ? said.best.newest : "";
      }),
    },
    { name: said.facts.label, texts: images.map(({ label }) => label ?? "") },
    { name: said.facts.score, texts: images.map(({ score }) => score.toFixed(3)), plain: true },
  ].filter((row) => row.texts.some(Boolean));
}

function bestOf(values, name) {
  const most = Math.max(...values);
  return values.map((value) => (value === most && values.some((other) => other < most) ? name : ""));
}

function table(rows, place, folder) {
  const list = element("dl", "facts");
  for (const { name, texts: values, best, plain } of rows) {
    const value = element("dd", "", values[place] || said.unknown);
    if (!plain && new Set(values).size > 1) {
      value.className = "differs";
    }
    if (best?.[place]) {
      value.append(" ", element("em", "best", best[place]));
    }
    list.append(pair(name, value));
  }
  const where = element("dd");
  const path = element("bdi", "", folder);
  where.append(path);
  list.append(pair(said.facts.place, where));
  return list;
}

function pair(name, value) {
  const both = element("div");
  both.append(element("dt", "", name), value);
  return both;
}

export function element(tag, className = "", content = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = content;
  return made;
}
