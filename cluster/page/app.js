// The page: an image is given, its question goes into the address, the answer into the gallery.

import { showAnswer, showNothing } from "./gallery.js";
import { addressed, addressOf, parsed, readable } from "./question.js";
import * as service from "./service.js";
import { showBlob, showThumbnail } from "./thumbnails.js";

const at = (id) => document.getElementById(id);

// The files that this tab was given, and the answers it got: going back asks nobody.
const uploads = new Map();
const answers = new Map();
const MAX_ANSWERS = 50;

// Null until the service has named them.
let collections = null;
let running = new AbortController();

/** Answer the question in the address; `anew` even if its answer is known. */
async function arrive({ anew = false } = {}) {
  if (!collections) {
    // The question waits in the address: start() comes here again.
    return;
  }
  running.abort();
  running = new AbortController();
  const { signal } = running;
  const question = parsed(location.hash);
  at("trouble").replaceChildren();
  at("asked").hidden = true;
  document.body.classList.toggle("asking", question !== null);
  if (!question) {
    busy(false);
    showStart();
    return;
  }
  showControls(question);
  try {
    const by = asked(question);
    showQuestion(question, by, signal);
    const address = location.hash;
    if (anew || !answers.has(address)) {
      busy(true);
      const { n, label, recall, collection } = question;
      remember(address, await service.search(by, { n, label, recall, collection }, { signal }));
    }
    busy(false);
    const hits = answers.get(address);
    say(showAnswer(hits, question));
    const own = hits.find(({ uri }) => uri === question.uri);
    if (own) {
      showThumbnail(pictureAsked(), own.id, question.collection);
    }
  } catch (error) {
    if (!signal.aborted) {
      busy(false);
      showNothing();
      showTrouble(error);
    }
  }
}

/** What the service is asked by: `{file}`, or `{id}`, `{uri}` or `{url}`. */
function asked({ upload, id, uri, url }) {
  if (!upload) {
    return id ? { id } : uri ? { uri } : { url };
  }
  if (!uploads.has(upload)) {
    throw new service.ServiceError(
      "The image was kept only until the page was loaded anew. Please choose it again.", 410,
    );
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
  go(addressOf({ ...by, ...controls(), collection: chosenCollection() }));
}

/** Ask by a file. */
function askFile(file) {
  const key = Date.now().toString(36);
  uploads.set(key, file);
  ask({ upload: key });
}

/** Ask by an address that was typed, pasted or dropped. */
function askAddress(text) {
  const by = addressed(text);
  if (by) {
    ask(by);
  } else {
    at("address").setAttribute("aria-invalid", "true");
    showTrouble(new Error("That is no address of an image: it begins like https://, s3:// or file://"));
  }
}

function go(address) {
  if (address === location.hash) {
    arrive({ anew: true });
  } else {
    location.hash = address;
  }
}

// What is shown

function showStart() {
  showNothing();
  document.title = "simdist";
  at("about").textContent = about(served());
  say("");
}

function about(collection) {
  if (!collection?.images) {
    return `${collection ? `The collection ${collection.name}` : "This service"} has no images yet: add some with simdist ingest.`;
  }
  return `${collection.images.toLocaleString("en")} images in the collection ${collection.name}`;
}

/** Show what is asked by. */
async function showQuestion({ upload, id, uri, url, collection }, { file }, signal) {
  at("asked").hidden = false;
  const picture = pictureAsked();
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
  picture.alt = "The image that is searched by";
  picture.draggable = false;
  at("asked-image").replaceWith(picture);
  return picture;
}

function name({ name, place }) {
  const [strong, rest] = [document.createElement("strong"), document.createElement("bdi")];
  strong.textContent = name;
  rest.textContent = place;
  at("asked-name").replaceChildren(strong, rest);
  document.title = name ? `${name} · simdist` : "simdist";
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
    const again = document.createElement("button");
    again.textContent = "Try again";
    again.addEventListener("click", () => (collections ? arrive({ anew: true }) : start()));
    at("trouble").append(again);
  }
  say("");
}

function showToken() {
  if (service.hasToken()) {
    const said = document.createElement("p");
    said.textContent = "The service does not accept this token.";
    at("trouble").replaceChildren(said);
    service.forgetToken();
  }
  at("token-form").hidden = false;
  at("query").hidden = true;
  at("token").select();
}

function busy(yes) {
  document.body.classList.toggle("busy", yes);
  at("results").setAttribute("aria-busy", yes);
  if (yes) {
    say("Searching…");
  }
}

function say(text) {
  at("status").textContent = text;
}

// The controls

function controls() {
  const recall = at("recall").value;
  return {
    n: Number(at("n").value),
    label: at("label").value.trim(),
    recall: recall ? Number(recall) : undefined,
  };
}

function served() {
  return collections.find(({ name }) => name === at("collection").value);
}

function chosenCollection() {
  // The first one need not be said: addresses stay short.
  const { value } = at("collection");
  return value && value !== collections[0].name ? value : undefined;
}

function showControls({ n, label, recall, collection }) {
  choose(at("collection"), collection ?? collections[0]?.name ?? "");
  offerRecalls();
  choose(at("n"), n);
  choose(at("recall"), recall ?? "");
  at("label").value = label ?? "";
}

/** Choose a value of a list; what the list lacks came with an address, and is added. */
function choose(select, value) {
  const text = String(value);
  if (![...select.options].some((option) => option.value === text)) {
    select.add(new Option(text, text));
  }
  select.value = text;
}

/** Offer the recalls that the collection's tables were measured to reach. */
function offerRecalls() {
  const recalls = served()?.recalls ?? [];
  const percent = (recall) => `${+(100 * recall).toFixed(2)} %`;
  at("recall").replaceChildren(
    new Option("usual", ""),
    ...recalls.map((recall) => new Option(percent(recall), String(recall))),
  );
  at("recall-field").hidden = !recalls.length;
}

// The beginning

async function start() {
  at("trouble").replaceChildren();
  busy(true);
  try {
    collections = await service.collections();
  } catch (error) {
    busy(false);
    showTrouble(error);
    return;
  }
  at("collection").replaceChildren(...collections.map(({ name }) => new Option(name, name)));
  at("collection-field").hidden = collections.length < 2;
  offerRecalls();
  at("token-form").hidden = true;
  at("query").hidden = false;
  await arrive();
}

window.addEventListener("hashchange", () => arrive());

at("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  service.useToken(at("token").value.trim());
  at("token").value = "";
  start();
});

at("file").addEventListener("change", ({ target }) => {
  if (target.files.length) {
    askFile(target.files[0]);
  }
  target.value = "";
});

at("address-form").addEventListener("submit", (event) => {
  event.preventDefault();
  askAddress(at("address").value);
});

at("address").addEventListener("input", () => at("address").removeAttribute("aria-invalid"));

at("controls").addEventListener("submit", (event) => event.preventDefault());

at("controls").addEventListener("change", () => {
  const question = parsed(location.hash);
  go(addressOf({ ...question, ...controls() }));
});

// A label that was picked from the list, or taken away with the field's own button.
at("label").addEventListener("input", (event) => {
  if (!(event instanceof InputEvent) || event.inputType === "insertReplacementText") {
    at("label").dispatchEvent(new Event("change", { bubbles: true }));
  }
});

at("collection").addEventListener("change", () => {
  const question = parsed(location.hash);
  // An indexed image belongs to its collection; anything else can be asked in another, too.
  if (question && !question.id) {
    go(addressOf({ ...question, label: undefined, recall: undefined, collection: chosenCollection() }));
  } else if (question) {
    location.hash = "";
  } else {
    offerRecalls();
    showStart();
  }
});

document.addEventListener("paste", (event) => {
  const [file] = event.clipboardData.files;
  const typing = event.target.closest?.("input");
  if (typing && !file) {
    return;
  }
  event.preventDefault();
  if (file) {
    askFile(file);
  } else if (event.clipboardData.getData("text/plain")) {
    askAddress(event.clipboardData.getData("text/plain"));
  }
});

// The whole page is where an image can be dropped.
let depth = 0;
document.addEventListener("dragenter", (event) => {
  event.preventDefault();
  curtain(++depth);
});
document.addEventListener("dragleave", () => curtain(--depth));
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  curtain((depth = 0));
  const [file] = event.dataTransfer.files;
  const addresses = event.dataTransfer.getData("text/uri-list");
  if (file) {
    askFile(file);
  } else if (addresses) {
    askAddress(addresses.split("\n").find((line) => !line.startsWith("#")) ?? "");
  }
});

function curtain(shown) {
  document.body.classList.toggle("dropping", shown > 0);
}

start();
