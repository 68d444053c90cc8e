// The views of the page: the address says which of them is shown. `#/browse?order=name` is the view
// "browse" with a parameter; an address without a slash belongs to the view "search".

import { chooseCollection, chosen } from "./controls.js";
import { reached } from "./service.js";

const at = (id) => document.getElementById(id);

const SEARCH = "search";
const views = new Map();

let running = new AbortController();
let shown = null;
let onTrouble = () => {};

/**
 * Offer a view: a section `view-NAME` of the page, to which a link in the navigation leads.
 *
 * @param {string} name of the view
 * @param {function} load fetches its module, when it is first shown, or about to be. It has, or
 *   has as its `view`, `enter(parameters, {signal})`, also called when only its parameters change:
 *   a promise that fails is shown as trouble; and `leave()`, before another view is shown. The
 *   signal is aborted when anything else is to be shown.
 */
export function register(name, load) {
  views.set(name, lazily(load, at(`view-${name}`)));
}

function lazily(load, section) {
  let view = null;
  // What is seen of it before its module is here would do nothing; but the view that the page begins
  // with takes what it is given from the start.
  section.inert = section.hidden;
  return {
    load,
    async enter(parameters, how) {
      if (!view) {
        try {
          const module = await reached(load);
          view = module.view ?? module;
        } finally {
          section.inert = false;
        }
      }
      if (!how.signal.aborted) {
        await view.enter(parameters, how);
      }
    },
    leave: () => view?.leave?.(),
  };
}

/** Fetch the view that the address names: it will be shown. `trouble` is told what goes wrong. */
export function prepare(trouble) {
  onTrouble = trouble;
  // What goes wrong is said when it is shown.
  views.get(current().name).load().catch(() => {});
}

/** Say what went wrong in the view that is shown, after it was entered. */
export function report(error) {
  onTrouble(error);
}

/** Show what the address says, now and whenever it changes. */
export function beginViews() {
  window.addEventListener("hashchange", () => dispatch());
  // What was said while the page began stays.
  return dispatch({ keep: true });
}

/** Show the same view anew. */
export function again() {
  return dispatch();
}

/** What the address says: the view's `name`, and its `parameters`, texts all of them. */
export function current() {
  const [, name, query] = /^#\/([a-z]+)(?:\?(.*))?$/s.exec(location.hash) ?? [];
  if (!views.has(name)) {
    return { name: SEARCH, parameters: {} };
  }
  return { name, parameters: Object.fromEntries(new URLSearchParams(query)) };
}

/** The address of a view; parameters that are empty or undefined are left out. */
export function viewAddress(name, parameters = {}) {
  const said = Object.entries(parameters).filter(([, value]) => value !== undefined && value !== "");
  const query = said.length ? `?${new URLSearchParams(said)}` : "";
  return name === SEARCH ? "#" : `#/${name}${query}`;
}

/** Let the links of the navigation lead to the collection that is chosen. */
export function pointNavigation() {
  const { name } = current();
  for (const link of at("views-nav").children) {
    link.href = viewAddress(link.dataset.view, { collection: chosen().collection });
    if (link.dataset.view === name) {
      link.setAttribute("aria-current", "page");
    } else {
      link.removeAttribute("aria-current");
    }
  }
}

/** Where what went wrong is said: in the view that is shown. */
export function placeTrouble() {
  const section = at(`view-${current().name}`);
  const place = section.querySelector(".found") ?? section;
  // Moved only where it has to be: what is moved is read out once more.
  if (at("trouble").parentElement !== place) {
    place.prepend(at("trouble"));
  }
}

async function dispatch({ keep = false } = {}) {
  running.abort();
  running = new AbortController();
  const { signal } = running;
  const { name, parameters } = current();
  if (!keep) {
    at("trouble").replaceChildren();
  }
  if (shown !== null && shown !== name) {
    views.get(shown).leave?.();
  }
  for (const section of document.querySelectorAll(".view")) {
    section.hidden = section.id !== `view-${name}`;
  }
  document.body.dataset.view = name;
  shown = name;
  placeTrouble();
  if (name !== SEARCH) {
    chooseCollection(parameters.collection);
  }
  try {
    const entered = views.get(name).enter(parameters, { signal });
    pointNavigation();
    await entered;
  } catch (error) {
    if (!signal.aborted) {
      onTrouble(error);
    }
  }
}
