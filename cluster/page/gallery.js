// The results: each is a link to the question that searches by it.

import { addressOf, readable } from "./question.js";
import { texts } from "./texts.js";
import { showThumbnail } from "./thumbnails.js";

const results = document.getElementById("results");
const title = document.getElementById("results-title");
const gallery = document.getElementById("gallery");
const nothing = document.getElementById("nothing");
const labels = document.getElementById("labels");

// Labels that were met: they are proposed to filter by.
const met = new Set();

/** Show what was found; returns it as a sentence. */
export function showAnswer(hits, question) {
  gallery.replaceChildren(...hits.map((hit) => tile(hit, question)));
  results.hidden = false;
  title.textContent = hits.length ? texts.search.found(hits.length) : texts.search.nothing;
  nothing.hidden = hits.length > 0;
  nothing.textContent = missing(question);
  meet(hits);
  return title.textContent;
}

/** Show no results; `asked` leaves what they were asked by, to be corrected. */
export function showNothing({ asked = false } = {}) {
  gallery.replaceChildren();
  results.hidden = !asked;
  title.textContent = texts.search.noAnswer;
  nothing.hidden = true;
}

function missing({ label, where }) {
  if (where) {
    return texts.search.nonePasses(label, where);
  }
  return label ? texts.search.noneLabelled(label) : texts.search.noneLike;
}

// A click leads to other results, which begin at the top.
gallery.addEventListener("click", (event) => {
  const elsewhere = event.ctrlKey || event.metaKey || event.shiftKey;
  if (event.target.closest("a") && !elsewhere) {
    title.focus({ preventScroll: true });
    window.scrollTo(0, 0);
  }
});

function tile({ id, uri, score, label }, question) {
  const { name, place } = readable(uri);
  const picture = document.createElement("img");
  picture.alt = "";
  picture.draggable = false;
  showThumbnail(picture, id, question.collection);

  const link = document.createElement("a");
  const { n, recall, collection, where } = question;
  link.href = addressOf({ id, n, recall, collection, where, label: question.label });
  link.title = uri;
  link.draggable = false;
  link.append(framed(picture, score), text("span", "label", label ?? texts.search.noLabel), path(name, place));
  if (id === question.id || uri === question.uri) {
    link.setAttribute("aria-current", "true");
  }
  const item = document.createElement("li");
  item.append(link);
  return item;
}

function framed(picture, score) {
  const frame = text("span", "frame", "");
  frame.append(picture, text("span", "score", score.toFixed(3)));
  return frame;
}

/** The path; where there is no room for all of it, its end is what tells images apart. */
function path(name, place) {
  const folder = text("span", "place", "");
  folder.append(text("bdi", "", place));
  const whole = text("span", "path", "");
  whole.append(folder, text("bdi", "name", name));
  return whole;
}

function text(tag, className, content) {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = content;
  return element;
}

function meet(hits) {
  for (const { label } of hits) {
    if (label !== null && !met.has(label)) {
      met.add(label);
      labels.append(new Option(label, label));
    }
  }
}
