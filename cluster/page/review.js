// Groups of duplicates are gone through one by one, and decided about.

import { activeOf, cardsOf, element, isSettled, nameOf, showState, suggested } from "./groups.js";
import * as service from "./service.js";
import { texts } from "./texts.js";
import { again, current, viewAddress } from "./views.js";

const said = texts.duplicates;
const at = (id) => document.getElementById(`duplicates-${id}`);

// Groups that are asked for at once, and whose pictures are loaded ahead of time.
const PAGE = 20;
const AHEAD = 2;
const PAUSE = 300;

// What is gone through, and where: see `beginReview`.
export let review = null;
let acting = Promise.resolve();
let naming = 0;
let named = -Infinity;
let remarked = "";

/**
 * Begin to go through groups.
 *
 * @param {object} what `asked` of the service; its `total` groups; whether there is anything to
 *   decide (`writable`); the `marking`; a `signal` that is aborted when something else is shown
 * @param {number} number the group to begin with, from 0 on
 */
export function beginReview(what, number) {
  review = { ...what, number, place: 0, group: null, pages: new Map(), ready: new Map() };
  return show(Math.min(Math.max(number, 0), what.total - 1));
}

/** Nothing is gone through any more. */
export function endReview() {
  clearTimeout(naming);
  review = null;
}

/** A group, from its page. */
async function groupAt(number) {
  const { pages, asked, signal } = review;
  const start = number - (number % PAGE);
  if (!pages.has(start)) {
    const page = service.duplicates({ ...asked, offset: start, n: PAGE }, { signal });
    pages.set(start, page);
    page.catch(() => pages.delete(start));
  }
  return (await pages.get(start)).page[number - start];
}

/** A group and its cards, whose pictures load from now on. */
async function prepared(number) {
  const group = await groupAt(number);
  if (review && !review.ready.has(number)) {
    const { asked, writable, signal } = review;
    review.ready.set(number, cardsOf(group, { collection: asked.collection, writable, signal }));
  }
  return group;
}

/** Show a group. */
export async function show(number, { place } = {}) {
  const its = review;
  its.number = number;
  const group = await prepared(number);
  if (review !== its || its.number !== number) {
    return;
  }
  its.group = group;
  const { total, signal } = its;
  at("group").replaceChildren(...its.ready.get(number));
  at("where").textContent = said.where(number + 1, total);
  document.title = texts.title(said.title1(number + 1, total));
  at("previous").disabled = number === 0;
  at("next").disabled = number === total - 1;
  nameGroup(number);
  refresh();
  choose(place ?? suggested(group));
  say(said.group(number + 1, total, group.images.length));
  for (const other of its.ready.keys()) {
    if (Math.abs(other - number) > AHEAD) {
      its.ready.delete(other);
    }
  }
  for (let ahead = number + 1; ahead <= Math.min(number + AHEAD, total - 1); ahead += 1) {
    prepared(ahead).catch((error) => signal.aborted || lost(error));
  }
}

/** Let the address name the group; of many in a moment the last, for browsers bear few changes. */
function nameGroup(number) {
  const group = number ? String(number + 1) : "";
  clearTimeout(naming);
  const change = () => {
    named = performance.now();
    history.replaceState(null, "", viewAddress("duplicates", { ...current().parameters, group }));
  };
  if (performance.now() - named > PAUSE) {
    change();
  } else {
    naming = setTimeout(change, PAUSE);
  }
}

/** Go on by so many groups. */
export function step(by) {
  const number = review.number + by;
  return number >= 0 && number < review.total ? show(number) : undefined;
}

/** Go to the next group about which something is left to decide. */
export async function goUndecided() {
  const { asked, number, marking, total } = review;
  await marking.saved;
  const from = (offset) => service.duplicateCounts({ ...asked, keep: undefined, offset });
  const first = (await from((number + 1) % total)).first ?? (await from(0)).first;
  if (first === null) {
    say(said.allDecided);
  } else {
    await show(first);
  }
}

/** Choose an image of the group that is shown. */
export function choose(place, { focus = true } = {}) {
  const items = [...at("group").children];
  review.place = Math.min(Math.max(place, 0), items.length - 1);
  for (const [number, item] of items.entries()) {
    const choice = item.firstElementChild;
    choice.tabIndex = number === review.place ? 0 : -1;
    item.classList.toggle("chosen", number === review.place);
  }
  if (focus) {
    items[review.place].firstElementChild.focus();
  }
  nameOnly();
}

function nameOnly() {
  const image = review.group.images[review.place];
  at("only").textContent = said.only(nameOf(image), othersOf(image).length);
  at("only").disabled = image.state !== "there";
}

/** Those that go when an image is kept only: none where it is no duplicate of theirs. */
function othersOf(image) {
  const active = activeOf(review.group);
  return active.includes(image) ? active.filter((other) => other !== image && !other.protected) : [];
}

/** Show what is decided by now about the group that is shown. */
function refresh() {
  const { group, marking } = review;
  for (const [place, item] of [...at("group").children].entries()) {
    showState(item, group.images[place], group);
  }
  at("where").classList.toggle("settled", isSettled(group));
  at("remove").textContent = said.remove(marking.marked);
  at("remove").disabled = !marking.marked;
  at("undo").disabled = !marking.done.length;
}

// What is decided

/** A card, or a button of it, was pressed. */
export function pressed({ target }) {
  const act = target.closest("[data-act]")?.dataset.act;
  const item = target.closest("li");
  if (act) {
    decide(Number(item.dataset.place), act);
  } else if (item) {
    choose(Number(item.dataset.place));
  }
}

/** Decide about an image of the group that is shown; what is so already is taken back. */
export function decide(place, act) {
  const { group, writable } = review;
  const image = group.images[place];
  if (!writable || image.state !== "there" || (image.protected && act !== "apart")) {
    return;
  }
  if (act === "apart" && image.representative) {
    apart(group.images.slice(1));
    return;
  }
  const after = image.decided === act ? null : act;
  change([[image, after]], said.said[after ?? "none"]);
}

function apart(images) {
  const there = images.filter(({ state }) => state === "there");
  const after = there.every(({ decided }) => decided === "apart") ? null : "apart";
  change(there.map((image) => [image, after]), said.said[after ?? "none"]);
}

/** Keep the chosen image only, and go on. */
export function keepOnly() {
  const { group, place, writable } = review;
  const image = group.images[place];
  if (writable && image.state === "there") {
    const own = image.decided === "remove" ? [[image, null]] : [];
    change([...own, ...othersOf(image).map((other) => [other, "remove"])], said.said.remove);
    return step(1);
  }
}

/** None of them is a duplicate: keep all, and go on. */
export function keepAll() {
  const { group, writable } = review;
  if (writable) {
    change(
      group.images.slice(1).filter(({ state }) => state === "there").map((image) => [image, "apart"]),
      said.said.apart,
    );
    return step(1);
  }
}

function change(changes, words) {
  review.marking.change(review.group, changes);
  refresh();
  nameOnly();
  say(words);
}

/** Take back what was decided last. */
export async function undo() {
  const taken = await review.marking.undo();
  if (!taken) {
    say(said.nothingToUndo);
    return;
  }
  if (!taken.group) {
    forget();
  }
  if (taken.group === review.group) {
    refresh();
    nameOnly();
  } else {
    await show(taken.group ? taken.group.number : review.number);
  }
  say(said.undone);
}

/** Ask for all groups anew. */
export function forget() {
  review.pages.clear();
  review.ready.clear();
}

/** Do something when all else is done that was to be done before; what fails is shown. */
export function attempt(act) {
  const its = review;
  acting = acting.then(async () => {
    try {
      await (review === its && act());
    } catch (error) {
      if (!its?.signal.aborted) {
        lost(error);
      }
    }
  });
}

/** Something could not be had, or saved: show why; by default all is asked for anew. */
export function lost(error, retry = again) {
  const trouble = document.getElementById("trouble");
  const button = element("button", "", texts.tryAgain);
  button.addEventListener("click", () => {
    trouble.replaceChildren();
    retry();
  });
  trouble.replaceChildren(element("p", "", error.message), button);
}

/** What was decided about a group is not saved: it is shown as it is in the collection. */
export function notSaved(error, group) {
  if (review) {
    forget();
    lost(error, () => attempt(() => show(group.number)));
  }
}

/** Remark something when groups are shown the next time; returns what was remarked before. */
export function remark(text) {
  const before = remarked;
  remarked = text;
  return before;
}

/** Say it to those who do not see it. */
export function say(text) {
  document.getElementById("status").textContent = text;
}
