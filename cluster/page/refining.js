// A question that is made narrower: by hits that others are to be like, or not, and to a part of
// its picture.

import { addressOf, readable } from "./question.js";
import { blob, previewPath } from "./service.js";
import { texts } from "./texts.js";
import { showThumbnail } from "./thumbnails.js";

const said = texts.refining;
const at = (id) => document.getElementById(id);
// The other side of each, with its sign; and the keys by which something is done with a hit.
const SIDES = { like: { sign: "+", other: "unlike" }, unlike: { sign: "−", other: "like" } };
const KEYS = { i: "details", "+": "like", "=": "like", "-": "unlike", "−": "unlike" };
// A picture that is sent among others: it is embedded at a quarter of that, and a request is small.
const MAX_SIDE = 1024;

const ids = (text) => (text ? text.split(".") : []);

/** What the service is asked by, given what it would be without all that. */
export async function narrowed(by, question, { signal }) {
  const { like, unlike, crop, id, collection } = question;
  // What is stored of an image is of the whole.
  const whole = crop && id ? { file: await blob(previewPath(id, collection), { signal }) } : by;
  if (!like && !unlike) {
    return crop ? { ...whole, crop } : whole;
  }
  const first = whole.file ? { image: await inBase64(whole.file) } : whole;
  const named = (side) => ids(question[side]).map((one) => ({ id: one }));
  return { like: [crop ? { ...first, crop } : first, ...named("like")], unlike: named("unlike") };
}

/** Show the hits that a question has for and against it, and offer a part; `go` asks anew. */
export function showNarrowed(question, by, go) {
  const items = Object.keys(SIDES).flatMap((side) =>
    ids(question[side]).map((id, place) => chip(question, side, id, place + 1, go)),
  );
  at("examples").replaceChildren(...items);
  at("examples").hidden = items.length === 0;
  at("part").hidden = !question.upload && !question.id;
  showPart(question.crop);
  at("part").textContent = question.crop ? said.otherPart : said.part;
  at("part").onclick = async () => {
    const { choosePart } = await import("./part.js");
    const crop = await choosePart(by.file ?? previewPath(question.id, question.collection), question.crop);
    if (crop !== null) {
      go(addressOf({ ...question, crop }));
    }
  };
}

/** Show of the picture that is asked by only the part that is. */
function showPart(crop) {
  const [x, y, width, height] = (crop ?? "0,0,1,1").split(",").map((share) => 100 * share);
  const inset = `inset(${y}% ${100 - x - width}% ${100 - y - height}% ${x}%)`;
  at("asked-image").style.setProperty("object-view-box", inset);
}

function chip(question, side, id, number, go) {
  const picture = document.createElement("img");
  picture.alt = "";
  showThumbnail(picture, id, question.collection);
  const button = document.createElement("button");
  button.className = side;
  button.title = said.takeAway[side](number);
  button.setAttribute("aria-label", button.title);
  button.append(picture, SIDES[side].sign);
  button.addEventListener("click", () => go(addressOf(toggled(question, side, id))));
  const item = document.createElement("li");
  item.append(button);
  return item;
}

/** Let hits be shown at large, and be said to be what others are to be like, or not. */
export function offerActs(hits, question, go) {
  [...at("gallery").children].forEach((item, place) => {
    const { id, uri } = hits[place];
    const acts = { details: () => go(addressOf({ ...question, open: id })) };
    if (id !== question.id && uri !== question.uri) {
      for (const side of Object.keys(SIDES)) {
        acts[side] = () => go(addressOf(toggled(question, side, id)));
      }
    }
    const buttons = document.createElement("span");
    buttons.className = "sides";
    buttons.append(...Object.entries(acts).map(([name, act]) => actOn(readable(uri).name, name, act)));
    item.append(buttons);
    item.firstElementChild.setAttribute("aria-keyshortcuts", acts.like ? "i + -" : "i");
    item.addEventListener("keydown", ({ key, ctrlKey, metaKey }) => {
      if (key in KEYS && !ctrlKey && !metaKey) {
        acts[KEYS[key]]?.();
      }
    });
  });
}

function actOn(hit, name, act) {
  const button = document.createElement("button");
  button.textContent = SIDES[name]?.sign ?? "i";
  button.title = said[name](hit);
  button.setAttribute("aria-label", button.title);
  // Three more stops at each hit would be many: its link has keys for them.
  button.tabIndex = -1;
  button.addEventListener("click", act);
  return button;
}

/** A question with an image on one side; without it, if it is there already. */
function toggled(question, side, id) {
  const { other } = SIDES[side];
  const [own, others] = [ids(question[side]), ids(question[other]).filter((one) => one !== id)];
  const left = own.includes(id) ? own.filter((one) => one !== id) : [...own, id];
  return { ...question, [side]: left.join("."), [other]: others.join(".") };
}

/** A picture as a data URL: smaller, where the browser can read it. */
async function inBase64(file) {
  const reader = new FileReader();
  reader.readAsDataURL(await smaller(file).catch(() => file));
  await new Promise((done) => reader.addEventListener("loadend", done));
  return reader.result;
}

async function smaller(file) {
  const picture = await createImageBitmap(file);
  const scale = Math.min(1, MAX_SIDE / Math.max(picture.width, picture.height));
  const canvas = new OffscreenCanvas(Math.ceil(picture.width * scale), Math.ceil(picture.height * scale));
  canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
  return canvas.convertToBlob({ type: "image/jpeg", quality: 0.95 });
}
