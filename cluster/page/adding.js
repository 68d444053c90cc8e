// The view in which images are added: some are sent at a time, and each that fails is named.

import { chosenCollection } from "./controls.js";
import { filesIn, filesOf } from "./dropped.js";
import { element } from "./groups.js";
import { claimDrops } from "./intake.js";
import { addressOf, readable } from "./question.js";
import { add } from "./service.js";
import { texts } from "./texts.js";

const said = texts.adding;
const at = (id) => document.getElementById(`add-${id}`);

// Images under way; how often one is sent again that the service was too busy for, and how long it
// waits before, at first; and lines that are shown.
const AT_ONCE = 3;
const TIMES = 6;
const PAUSE = 500;
const SHOWN = 100;

// What is added: it goes on while other views are shown.
let run = nothing();
let listening = false;

function nothing() {
  return { waiting: [], failures: [], total: 0, done: 0, passedOver: 0, underWay: 0, stopped: 0 };
}

export async function enter() {
  listen();
  const writable = Boolean(chosenCollection()?.writable);
  document.title = texts.title(said.title);
  at("refused").hidden = writable;
  at("refused").textContent = said.refused;
  at("give").hidden = !writable;
  at("how").hidden = !writable;
  at("how").textContent = said.how;
  claimDrops(writable ? (data) => filesOf(data).then(begin) : () => {}, writable ? said.curtain : said.refused);
}

export function leave() {
  claimDrops(null, texts.search.curtain);
}

function listen() {
  if (listening) {
    return;
  }
  listening = true;
  for (const id of ["files", "folder"]) {
    at(id).addEventListener("change", ({ target }) => {
      begin(filesIn(target.files));
      target.value = "";
    });
  }
  at("stop").addEventListener("click", () => {
    run.stopped += run.waiting.splice(0).length;
    show();
  });
  at("retry").addEventListener("click", () => retry([...run.failures]));
  window.addEventListener("beforeunload", (event) => {
    if (run.underWay) {
      event.preventDefault();
    }
  });
}

/** Add what was given, behind what is under way. */
function begin({ images, passedOver }) {
  if (!run.underWay && !run.failures.length) {
    run = nothing();
    at("failures").replaceChildren();
    at("done").replaceChildren();
  }
  const { name: collection } = chosenCollection();
  const label = at("label").value.trim() || undefined;
  run.total += images.length;
  run.passedOver += passedOver;
  run.waiting.push(...images.map((image) => ({ ...image, collection, label })));
  go();
}

function go() {
  at("run").hidden = false;
  show();
  while (run.underWay < AT_ONCE && run.waiting.length) {
    send(run.waiting.shift());
  }
}

async function send(image) {
  run.underWay += 1;
  try {
    landed(image, await patiently(image));
    run.done += 1;
  } catch (error) {
    failed(image, error);
  }
  run.underWay -= 1;
  go();
}

/** Send an image; again and again while the service is busy, or out of reach for a moment. */
async function patiently({ file, path, collection, label }) {
  for (let time = 1; ; time += 1) {
    try {
      return await add(file, { uri: uriOf(file, path), collection, label });
    } catch (error) {
      if (!error.passing || time === TIMES) {
        throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, PAUSE * 2 ** (time - 1)));
    }
  }
}

/** What an image is to be known by: the same file gets the same, others of its name do not. */
function uriOf(file, path) {
  const own = `${file.size.toString(36)}-${file.lastModified.toString(36)}`;
  return `urn:upload:${own}/${path.split("/").map(encodeURIComponent).join("/")}`;
}

// What is shown

function landed({ path, collection }, { id, outcome, duplicates }) {
  const line = element("li");
  const link = element("a");
  link.append(element("bdi", "", path));
  link.href = addressOf({ id, collection });
  line.append(link, element("span", "what", said.outcomes[outcome]));
  const [first] = duplicates;
  if (first) {
    const like = element("a", "like");
    const others = duplicates.length > 1 ? ` ${said.more(duplicates.length - 1)}` : "";
    like.href = addressOf({ id: first.id, collection });
    like.append(element("bdi", "", said[first.kind](readable(first.uri).name)), others);
    line.append(like);
  }
  at("done").prepend(line);
  while (at("done").childElementCount > SHOWN) {
    at("done").lastElementChild.remove();
  }
}

function failed(image, error) {
  const line = element("li");
  const again = element("button", "", said.retry);
  const failure = { image, line };
  again.setAttribute("aria-label", `${said.retry}: ${image.path}`);
  again.addEventListener("click", () => retry([failure]));
  line.append(element("bdi", "", image.path), element("span", "reason", error.message), again);
  run.failures.push(failure);
  if (run.failures.length <= SHOWN) {
    at("failures").append(line);
  }
}

function retry(failures) {
  for (const failure of failures) {
    run.failures.splice(run.failures.indexOf(failure), 1);
    failure.line.remove();
    run.waiting.push(failure.image);
  }
  // Those take their places for which there was no room.
  at("failures").append(...run.failures.slice(0, SHOWN).map(({ line }) => line));
  go();
}

function show() {
  const { total, done, failures, passedOver, underWay, waiting, stopped } = run;
  const running = underWay + waiting.length > 0;
  const left = passedOver ? ` ${said.passedOver(passedOver)}` : "";
  const ended = stopped ? said.stopped(stopped) : `${said.finished(done, failures.length)}.`;
  at("doing").textContent = (running ? said.doing(done + failures.length, total) : ended) + left;
  at("bar").max = total || 1;
  at("bar").value = done + failures.length;
  at("bar").hidden = at("stop").hidden = !running;
  at("failed").hidden = !failures.length;
  at("failed-title").textContent = said.failed(failures.length);
  at("done-title").textContent = said.done(done) + (done > SHOWN ? said.onlyLatest(SHOWN) : "");
  if (!running) {
    document.getElementById("status").textContent = at("doing").textContent;
  }
}
