// The view that answers questions: an image is given, its question goes into the address, the answer
// into the gallery.

import { chosen, chosenCollection, refuseFilter, showChosen } from "./controls.js";
import { showAnswer, showNothing } from "./gallery.js";
import { addressed, addressOf, parsed, readable } from "./question.js";
import { narrowed, offerActs, showNarrowed } from "./refining.js";
import * as service from "./service.js";
import { texts } from "./texts.js";
import { showBlob, showThumbnail } from "./thumbnails.js";
import { report } from "./views.js";

const at = (id) => document.getElementById(id);

// The files that this tab was given, and the answers it got: going back asks nobody.
const uploads = new Map();
const answers = new Map();
const MAX_ANSWERS = 50;
// What the service says where it does not understand a filter.
const REFUSED = 422;

let running = new AbortController();
// The address whose answer is shown, and the dialog with one of its images.
let shown = null;
let details = null;

/** The view, as `views.register` takes it. */
export const view = {
  enter: () => arrive(),
  leave() {
    running.abort();
    shown = null;
    details?.closeDetails();
    busy(false);
    document.body.classList.remove("asking");
  },
};

/** Answer the question in the address; `anew` even if its answer is known. */
export async function arrive({ anew = false } = {}) {
  running.abort();
  running = new AbortController();
  const { signal } = running;
  const said = parsed(location.hash);
  if (!said) {
    shown = null;
    details?.closeDetails();
    at("asked").hidden = true;
    document.body.classList.remove("asking");
    busy(false);
    showStart();
    return;
  }
  const { open, ...question } = said;
  try {
    const address = addressOf(question);
    if (anew || address !== shown) {
      shown = null;
      details?.closeDetails();
      await answer(question, address, { anew, signal });
      shown = address;
    }
    await showOpen(open, question, signal);
  } catch (error) {
    if (!signal.aborted) {
      busy(false);
      const corrected = Boolean(question.where) && error.status === REFUSED;
      showNothing({ asked: corrected });
      if (corrected) {
        refuseFilter();
      }
      report(error);
    }
  }
}

async function answer(question, address, { anew, signal }) {
  at("trouble").replaceChildren();
  at("asked").hidden = true;
  document.body.classList.add("asking");
  showChosen(question);
  const by = asked(question);
  showQuestion(question, by, signal);
  showNarrowed(question, by, go);
  if (anew || !answers.has(address)) {
    busy(true);
    const { n, label, where, recall, collection } = question;
    const how = { n, label, where, recall, collection };
    const what = await narrowed(by, question, { signal });
    remember(address, await service.search(what, how, { signal }));
  }
  busy(false);
  const hits = answers.get(address);
  say(showAnswer(hits, question));
  offerActs(hits, question, go);
  const own = hits.find(({ uri }) => uri === question.uri);
  if (own) {
    showThumbnail(pictureAsked(), own.id, question.collection);
  }
}

/** Show the hit that is open, or none. */
async function showOpen(id, question, signal) {
  const hits = answers.get(addressOf(question));
  const place = hits.findIndex((hit) => hit.id === id);
  if (place < 0) {
    details?.closeDetails();
    return;
  }
  details ??= await service.reached(() => import("./details.js"));
  if (!signal.aborted) {
    const { collection } = question;
    await details.showDetails(neighbourhood(hits, place, question), { ...hits[place], collection, signal });
  }
}

/** What is before and behind a hit, for the details. */
function neighbourhood(hits, place, question) {
  let index = place;
  return {
    total: () => hits.length,
    index: () => index,
    async move(by) {
      const hit = hits[index + by];
      if (hit) {
        index += by;
        history.replaceState(null, "", addressOf({ ...question, open: hit.id }));
      }
      return hit;
    },
    here: async () => hits[index],
    close() {
      location.hash = addressOf(question);
    },
  };
}

/** What the service is asked by: `{file}`, or `{id}`, `{uri}`, `{url}` or `{text}`. */
function asked({ upload, id, uri, url, text }) {
  if (!upload) {
    return id ? { id } : uri ? { uri } : url ? { url } : { text };
  }
  if (!uploads.has(upload)) {
    throw new service.ServiceError(texts.search.uploadGone, 410);
  }
  return { file: uploads.get(upload) };
}

function remember(address, hits) {
  answers.delete(address);
  answers.set(address, hits);
  if (answers.size > MAX_ANSWERS) {
    answers.delete(answers.keys().next().value);
  }
}

/** Search by a file. */
export function askFile(file) {
  const key = Date.now().toString(36);
  uploads.set(key, file);
  ask({ upload: key });
}

/** Search by what a text is: an address, or words where the collection knows any. */
export function askText(text) {
  const words = chosenCollection()?.words ? text.trim() : "";
  const by = addressed(text) ?? (words && { text: words });
  if (by) {
    ask(by);
  } else {
    at("address").setAttribute("aria-invalid", "true");
    report(new Error(texts.search.noAddress));
  }
}

/** Ask the same with the controls as they are now. */
export function askOtherwise() {
  go(addressOf({ ...parsed(location.hash), ...chosen(), open: undefined }));
}

/** Ask the same of another collection. */
export function askElsewhere() {
  const question = parsed(location.hash);
  // An indexed image belongs to its collection; anything else can be asked in another, too.
  if (!question) {
    showStart();
  } else if (question.id) {
    location.hash = "";
  } else {
    const others = { label: undefined, where: undefined, like: undefined, unlike: undefined, open: undefined };
    go(addressOf({ ...question, ...chosen(), ...others }));
  }
}

/** Ask something: with the controls as they are, but in place of what was asked by before. */
function ask(by) {
  go(addressOf({ ...by, ...chosen() }));
}

function go(address) {
  if (address !== location.hash) {
    location.hash = address;
  } else {
    arrive({ anew: true });
  }
}

// What is shown

function showStart() {
  showNothing();
  document.title = texts.title("");
  at("about").textContent = about(chosenCollection());
  say("");
}

function about(collection) {
  if (!collection?.images) {
    return texts.search.empty(collection?.name);
  }
  return texts.search.about(collection.images, collection.name);
}

/** Show what is asked by. */
async function showQuestion({ upload, id, uri, url, text, collection }, { file }, signal) {
  at("asked").hidden = false;
  const picture = pictureAsked();
  picture.parentElement.hidden = Boolean(text);
  if (upload) {
    name({ name: file.name, place: "" });
    showBlob(picture, file);
  } else if (id) {
    name({ name: "", place: "" });
    showThumbnail(picture, id, collection);
    const record = await service.image(id, collection, { signal }).catch(() => null);
    if (record && !signal.aborted) {
      name(readable(record.uri));
    }
  } else if (text) {
    name({ name: text, place: "" });
  } else {
    // Where it is among its results, it is shown then.
    picture.classList.add("missing");
    name(readable(uri ?? url));
  }
}

/** A new <img> for what is asked by: nothing that still loads can come into it. */
function pictureAsked() {
  const picture = document.createElement("img");
  picture.id = "asked-image";
  picture.alt = texts.search.asked;
  picture.draggable = false;
  at("asked-image").replaceWith(picture);
  return picture;
}

function name({ name, place }) {
  const [strong, rest] = [document.createElement("strong"), document.createElement("bdi")];
  strong.textContent = name;
  rest.textContent = place;
  at("asked-name").replaceChildren(strong, rest);
  document.title = texts.title(name);
}

function busy(yes) {
  document.body.classList.toggle("busy", yes);
  at("results").setAttribute("aria-busy", yes);
  if (yes) {
    say(texts.search.searching);
  }
}

function say(text) {
  at("status").textContent = text;
}
