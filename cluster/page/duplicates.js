// The view of duplicates: they are found, and then gone through.

import { askRemoval, askRule, showKeys } from "./bulk.js";
import { chosen, chosenCollection } from "./controls.js";
import { Marking } from "./marking.js";
import * as go from "./review.js";
import { beginReview, choose, decide, endReview, notSaved, remark, review } from "./review.js";
import * as service from "./service.js";
import { texts } from "./texts.js";
import { again, current, viewAddress } from "./views.js";

const said = texts.duplicates;
const at = (id) => document.getElementById(`duplicates-${id}`);

const PAUSE = 700;
let listening = false;

function wanted(parameters = current().parameters) {
  return { collection: chosenCollection()?.name, sought: parameters.sought === "similar" ? "similar" : "same" };
}

function address(more) {
  return viewAddress("duplicates", { ...current().parameters, collection: chosen().collection, group: "", ...more });
}

/** Find duplicates, and go through them. */
export async function enter(parameters, { signal }) {
  endReview();
  for (const id of ["review", "notice", "progress"]) {
    at(id).hidden = true;
  }
  document.title = texts.title(said.title);
  listen();
  at("sought").value = wanted(parameters).sought;
  at("keep").value = parameters.keep ?? "";
  await service.findDuplicates(wanted(parameters), { signal });
  const asked = { ...wanted(parameters), keep: parameters.keep || undefined };
  const found = await whenFound(asked, signal);
  if (found && !signal.aborted) {
    await begin(found, asked, Number(parameters.group) || 0, signal);
  }
}

/** Nothing is gone through any more. */
export function leave() {
  at("dialog").close();
  endReview();
}

/** Wait until duplicates are found, and say how far it is; null where they are not. */
async function whenFound(asked, signal) {
  for (;;) {
    const found = await service.duplicates({ ...asked, n: 1 }, { signal });
    const underWay = found.state === "waiting" || found.state === "running" || found.state === "none";
    at("progress").hidden = !underWay;
    at("stop").hidden = !chosenCollection()?.writable;
    if (found.state === "done") {
      return found;
    }
    if (!underWay) {
      notice(found.state === "cancelled" ? said.cancelled : said.failed(found.detail));
      return null;
    }
    if (found.state === "none") {
      // What had begun to find them is gone.
      await service.findDuplicates(wanted(), { signal });
    }
    const { doing, done, total } = found;
    at("doing").textContent = found.state === "running" ? said.doing(doing, done, total) : said.waiting;
    if (total) {
      [at("bar").value, at("bar").max] = [done, total];
    } else {
      at("bar").removeAttribute("value");
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
    signal.throwIfAborted();
  }
}

/** Begin to go through what was found. */
async function begin(found, asked, number, signal) {
  const counts = await service.duplicateCounts({ ...asked, keep: undefined, offset: 0 }, { signal });
  const { groups: total, images, outdated, left_out: leftOut } = found;
  const marking = new Marking(asked.collection, counts.marked, notSaved);
  const writable = Boolean(chosenCollection()?.writable);
  const remarked = remark("");
  if (remarked) {
    notice(remarked, { again: false });
  } else if (outdated || leftOut) {
    notice(outdated ? said.outdated : said.leftOut(leftOut), { again: outdated });
  } else if (!total) {
    notice(said.none(images), { again: false });
  }
  at("review").hidden = !total;
  at("acts").hidden = !writable;
  at("hint").textContent = writable ? said.hint : said.readOnly;
  if (total) {
    // What was removed has moved the others: then it goes on where something is left to decide.
    const first = remarked ? counts.first ?? 0 : number - 1;
    await beginReview({ asked, total, writable, marking, signal }, first);
  }
}

function notice(text, { again = true } = {}) {
  at("notice").hidden = false;
  at("notice-text").textContent = text;
  at("again").hidden = !again;
}

/** Listen to the view, once. */
function listen() {
  if (listening) {
    return;
  }
  listening = true;
  at("controls").addEventListener("submit", (event) => event.preventDefault());
  at("controls").addEventListener("change", () => {
    const { parameters } = current();
    const asked = { collection: chosen().collection, sought: at("sought").value, keep: at("keep").value };
    location.hash = viewAddress("duplicates", { ...parameters, ...asked, group: "" });
  });
  const presses = {
    previous: () => go.step(-1),
    next: () => go.step(1),
    undecided: go.goUndecided,
    only: go.keepOnly,
    none: go.keepAll,
    undo: go.undo,
    bulk: askRule,
    remove: askRemoval,
    // Not waited for: it may take long, and can be stopped.
    again: () => {
      again();
    },
    stop: () => service.stopDuplicates(wanted()),
  };
  for (const [name, act] of Object.entries(presses)) {
    at(name).addEventListener("click", () => go.attempt(act));
  }
  at("group").addEventListener("click", go.pressed);
  at("group").addEventListener("focusin", ({ target }) => {
    const item = target.closest("li");
    if (item) {
      choose(Number(item.dataset.place), { focus: false });
    }
  });
  document.addEventListener("keydown", key);
}

// Keys

const KEYS = {
  j: () => go.step(1),
  ArrowDown: () => go.step(1),
  k: () => go.step(-1),
  ArrowUp: () => go.step(-1),
  ArrowRight: () => choose(review.place + 1),
  ArrowLeft: () => choose(review.place - 1),
  Home: () => go.show(0),
  End: () => go.show(review.total - 1),
  Enter: go.keepOnly,
  p: () => decide(review.place, "keep"),
  r: () => decide(review.place, "remove"),
  Delete: () => decide(review.place, "remove"),
  n: () => decide(review.place, "apart"),
  a: go.keepAll,
  u: go.undo,
  g: go.goUndecided,
  "?": showKeys,
};

function key(event) {
  const { target, ctrlKey, metaKey, altKey, shiftKey } = event;
  if (!review?.group || at("dialog").open || altKey || target.closest("input, select, a")) {
    return;
  }
  const undoes = (ctrlKey || metaKey) && !shiftKey && event.key === "z";
  const named = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const act = undoes ? go.undo : ctrlKey || metaKey ? null : KEYS[named];
  // A button's Enter is its own.
  if (act && !(named === "Enter" && target.closest("button"))) {
    event.preventDefault();
    go.attempt(act);
  }
}
