// The page: an image is given, its question goes into the address, the answer into the gallery.

import { chosen, chosenCollection, offerCollections, refuseFilter, showChosen, whenChosen } from "./controls.js";
import { showAnswer, showNothing } from "./gallery.js";
import { whenGiven } from "./intake.js";
import { addressed, addressOf, parsed, readable } from "./question.js";
import * as service from "./service.js";
import { texts } from "./texts.js";
import { showBlob, showThumbnail } from "./thumbnails.js";
import { again, beginViews, current, lazily, placeTrouble, pointNavigation, register, viewAddress } from "./views.js";

const at = (id) => document.getElementById(id);

// The files that this tab was given, and the answers it got: going back asks nobody.
const uploads = new Map();
const answers = new Map();
const MAX_ANSWERS = 50;
// What the service says where it does not understand a filter.
const REFUSED = 422;

// Whether the service has said what it serves.
let started = false;
let running = new AbortController();

// Not for who looks around only.
const loadRefining = () => import("./refining.js");

/** Answer the question in the address; `anew` even if its answer is known. */
async function arrive({ anew = false } = {}) {
  running.abort();
  running = new AbortController();
  const { signal } = running;
  const question = parsed(location.hash);
  if (question) {
    at("trouble").replaceChildren();
  }
  at("asked").hidden = true;
  document.body.classList.toggle("asking", question !== null);
  if (!question) {
    busy(false);
    showStart();
    return;
  }
  showChosen(question);
  try {
    const by = asked(question);
    showQuestion(question, by, signal);
    const refining = await service.reached(loadRefining);
    signal.throwIfAborted();
    refining.showNarrowed(question, by, go);
    const address = location.hash;
    if (anew || !answers.has(address)) {
      busy(true);
      const { n, label, where, recall, collection } = question;
      const how = { n, label, where, recall, collection };
      const what = await refining.narrowed(by, question, { signal });
      remember(address, await service.search(what, how, { signal }));
    }
    busy(false);
    const hits = answers.get(address);
    say(showAnswer(hits, question));
    refining.offerExamples(hits, question, go);
    const own = hits.find(({ uri }) => uri === question.uri);
    if (own) {
      showThumbnail(pictureAsked(), own.id, question.collection);
    }
  } catch (error) {
    if (!signal.aborted) {
      busy(false);
      const corrected = Boolean(question.where) && error.status === REFUSED;
      showNothing({ asked: corrected });
      if (corrected) {
        refuseFilter();
      }
      showTrouble(error);
    }
  }
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

/** Ask something: with the controls as they are, but in place of what was asked by before. */
function ask(by) {
  go(addressOf({ ...by, ...chosen() }));
}

function go(address) {
  if (address !== location.hash) {
    location.hash = address;
  } else if (started) {
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

function showTrouble(error) {
  if (error.status === 401) {
    showToken();
    return;
  }
  const said = document.createElement("p");
  said.textContent = error.message;
  at("trouble").replaceChildren(said);
  if (error.passing) {
    const retry = document.createElement("button");
    retry.textContent = texts.tryAgain;
    retry.addEventListener("click", () => (started ? tryAgain() : start()));
    at("trouble").append(retry);
  }
  say("");
}

function tryAgain() {
  return current().name === "search" ? arrive({ anew: true }) : again();
}

function showToken() {
  at("token-form").after(at("trouble"));
  if (service.hasToken()) {
    const said = document.createElement("p");
    said.textContent = texts.tokenRefused;
    at("trouble").replaceChildren(said);
    service.forgetToken();
  }
  at("token-form").hidden = false;
  at("views").hidden = true;
  at("token").select();
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

// The beginning

async function start() {
  at("trouble").replaceChildren();
  busy(true);
  try {
    offerCollections(await service.collections());
  } catch (error) {
    busy(false);
    if (!at("views").hidden) {
      placeTrouble();
    }
    showTrouble(error);
    return;
  }
  busy(false);
  say("");
  at("token-form").hidden = true;
  at("views").hidden = false;
  if (started) {
    await again();
    return;
  }
  started = true;
  await beginViews(showTrouble);
}

register("search", {
  enter() {
    loadRefining().catch(() => {});
    return arrive();
  },
  leave() {
    running.abort();
    busy(false);
    document.body.classList.remove("asking");
  },
});

register("browse", lazily(() => import("./browse.js")));
register("duplicates", lazily(() => import("./duplicates.js")));
register("add", lazily(() => import("./adding.js")));

at("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  service.useToken(at("token").value.trim());
  at("token").value = "";
  start();
});

whenGiven({
  onFile(file) {
    const key = Date.now().toString(36);
    uploads.set(key, file);
    ask({ upload: key });
  },
  onAddress(text) {
    const words = chosenCollection()?.words ? text.trim() : "";
    const by = addressed(text) ?? (words && { text: words });
    if (by) {
      ask(by);
    } else {
      at("address").setAttribute("aria-invalid", "true");
      showTrouble(new Error(texts.search.noAddress));
    }
  },
});

whenChosen({
  onCollection() {
    const { name } = current();
    if (name !== "search") {
      location.hash = viewAddress(name, { collection: chosen().collection });
      return;
    }
    pointNavigation();
    const question = parsed(location.hash);
    // An indexed image belongs to its collection; anything else can be asked in another, too.
    if (!question) {
      showStart();
    } else if (question.id) {
      location.hash = "";
    } else {
      const others = { label: undefined, where: undefined, like: undefined, unlike: undefined };
      go(addressOf({ ...question, ...chosen(), ...others }));
    }
  },
  onOther() {
    go(addressOf({ ...parsed(location.hash), ...chosen() }));
  },
});

start();
