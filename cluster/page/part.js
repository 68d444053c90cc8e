// The dialog in which a part of a picture is chosen, by pointer or by keys.

import { texts } from "./texts.js";
import { showBlob, showPreview } from "./thumbnails.js";

const said = texts.refining;
const at = (id) => document.getElementById(id);
const STEP = 0.02;
// Of each side, the least that is a part: a click is none.
const LEAST = 0.04;
const MIDDLE = { x: 0.25, y: 0.25, width: 0.5, height: 0.5 };
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/**
 * Let a part of a picture be chosen.
 *
 * @param {Blob|string} picture itself, or where it is
 * @param {string} [crop] what is chosen already
 * @returns {Promise<string|null>} "x,y,width,height", in fractions of the picture; "" for all of
 *   it; null where all is to stay as it is.
 */
export async function choosePart(picture, crop) {
  const dialog = at("part-dialog");
  const loading = new AbortController();
  const image = document.createElement("img");
  image.alt = "";
  image.draggable = false;
  at("part-stage").replaceChildren(image, at("part-box"));
  typeof picture === "string" ? showPreview(image, picture, loading) : showBlob(image, picture);
  let box = crop ? read(crop) : MIDDLE;
  const show = (next) => {
    box = next;
    for (const [side, share] of Object.entries({ left: box.x, top: box.y, width: box.width, height: box.height })) {
      at("part-box").style.setProperty(side, `${100 * share}%`);
    }
  };
  show(box);
  const ended = new AbortController();
  drawnOn(at("part-stage"), show, ended);
  at("part-stage").addEventListener("keydown", (event) => moved(event, box, show), ended);
  at("part-whole").hidden = !crop;
  dialog.returnValue = "";
  dialog.showModal();
  at("part-stage").focus();
  await new Promise((done) => dialog.addEventListener("close", done, { once: true }));
  loading.abort();
  ended.abort();
  return { part: written(box), whole: "" }[dialog.returnValue] ?? null;
}

function drawnOn(stage, show, { signal }) {
  let start = null;
  const place = ({ clientX, clientY }) => {
    const { left, top, width, height } = stage.getBoundingClientRect();
    return { x: within((clientX - left) / width), y: within((clientY - top) / height) };
  };
  stage.addEventListener("pointerdown", (event) => {
    start = place(event);
    stage.setPointerCapture(event.pointerId);
  }, { signal });
  stage.addEventListener("pointermove", (event) => {
    if (!start) {
      return;
    }
    const end = place(event);
    const [width, height] = [Math.abs(end.x - start.x), Math.abs(end.y - start.y)];
    if (width >= LEAST && height >= LEAST) {
      show({ x: Math.min(start.x, end.x), y: Math.min(start.y, end.y), width, height });
    }
  }, { signal });
  for (const end of ["pointerup", "pointercancel"]) {
    stage.addEventListener(end, () => (start = null), { signal });
  }
}

/** Arrows move the part; with Shift they make it larger and smaller. Enter takes it. */
function moved(event, box, show) {
  if (event.key === "Enter") {
    // Else it would press the button that opened the dialog, which has the focus again.
    event.preventDefault();
    at("part-dialog").close("part");
  }
  const [across, down] = ARROWS[event.key] ?? [];
  if (across === undefined) {
    return;
  }
  event.preventDefault();
  if (event.shiftKey) {
    const width = Math.min(Math.max(box.width + across * STEP, LEAST), 1 - box.x);
    const height = Math.min(Math.max(box.height + down * STEP, LEAST), 1 - box.y);
    show({ ...box, width, height });
  } else {
    const x = Math.min(within(box.x + across * STEP), 1 - box.width);
    show({ ...box, x, y: Math.min(within(box.y + down * STEP), 1 - box.height) });
  }
}

function within(share) {
  return Math.min(Math.max(share, 0), 1);
}

function read(crop) {
  const [x, y, width, height] = crop.split(",").map(Number);
  return [x, y, width, height].every(Number.isFinite) ? { x, y, width, height } : MIDDLE;
}

/** Rounded so that nothing reaches beyond the picture. */
function written({ x, y, width, height }) {
  const down = (share) => Math.floor(share * 1000) / 1000;
  return [x, y, width, height].map(down).join(",");
}
