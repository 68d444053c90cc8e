// One image, as large as there is room, and what is known of it.

import { addressOf, readable } from "./question.js";
import { blob, image as fetchImage, originalPath, previewPath } from "./service.js";
import { texts } from "./texts.js";
import { showPreview } from "./thumbnails.js";

const at = (id) => document.getElementById(id);
const say = texts.details;
const ZOOMS = [1, 1.5, 2, 3, 4, 6, 8];

let around = null;
let zoom = 0;
let running = new AbortController();

/**
 * Show an image.
 *
 * @param {object} list the list that it is in: `total()`, `index()`, `here()`, `move(by)`, `close()`
 * @param {object} image its `id` and its `collection`, and its `score` where it was searched for
 */
export async function showDetails(list, { collection, signal, ...image }) {
  around = list;
  if (!at("details").open) {
    at("details").showModal();
  }
  await show(image, collection, signal);
  const here = await list.here();
  if (!signal.aborted) {
    // An address may be older than the list.
    showPlace(here?.id === image.id);
  }
}

/** Show none. */
export function closeDetails() {
  running.abort();
  around = null;
  if (at("details").open) {
    at("details").close();
  }
}

async function show({ id, score }, collection, outer) {
  running.abort();
  running = new AbortController();
  const { signal } = running;
  setZoom(0);
  at("details-facts").replaceChildren();
  at("details-name").textContent = "";
  at("details-trouble").textContent = "";
  at("details-similar").href = addressOf({ id, collection });
  at("details-download").dataset.path = originalPath(id, collection);
  showPreview(newPicture(), previewPath(id, collection), { signal });
  try {
    const found = await fetchImage(id, collection, { signal });
    if (!signal.aborted && !outer?.aborted) {
      showFacts(found, score);
    }
  } catch (error) {
    if (!signal.aborted) {
      at("details-trouble").textContent = error.message;
    }
  }
}

function newPicture() {
  const picture = document.createElement("img");
  picture.id = "details-picture";
  picture.alt = "";
  picture.draggable = false;
  at("details-picture").replaceWith(picture);
  return picture;
}

function showPlace(known) {
  const index = around?.index() ?? 0;
  const total = around?.total() ?? 0;
  at("details-place").textContent = known ? say.place(index + 1, total) : "";
  at("details-previous").disabled = !known || index === 0;
  at("details-next").disabled = !known || index + 1 >= total;
}

function showFacts({ uri, label, metadata }, score) {
  const { name, place } = readable(uri);
  document.title = texts.title(name);
  at("details-name").textContent = name;
  at("details-download").dataset.name = name;
  at("details-picture").alt = name;
  const { width, height, bytes, format, date, camera, ...rest } = metadata;
  const facts = [
    [say.score, score?.toFixed(3)],
    [say.folder, place],
    [say.label, label],
    [say.date, date],
    [say.camera, camera],
    [say.size, width && height ? say.pixels(width, height) : null],
    [say.file, [format, typeof bytes === "number" ? say.bytes(bytes) : null].filter(Boolean).join(", ")],
    ...Object.entries(rest).map(([key, value]) => [key, typeof value === "object" ? JSON.stringify(value) : value]),
  ].filter(([, value]) => value !== null && value !== undefined && value !== "");
  at("details-facts").replaceChildren(...facts.flatMap(([term, value]) => {
    const [dt, dd, text] = [document.createElement("dt"), document.createElement("dd"), document.createElement("bdi")];
    dt.textContent = term;
    text.textContent = String(value);
    dd.append(text);
    return [dt, dd];
  }));
}

async function move(by) {
  const list = around;
  const found = await list?.move(by);
  if (found && around === list) {
    const collection = new URLSearchParams(at("details-download").dataset.path.split("?")[1]).get("collection");
    await show(found, collection ?? undefined);
    showPlace(true);
  }
}

function setZoom(step) {
  zoom = Math.max(0, Math.min(ZOOMS.length - 1, step));
  const frame = at("details-frame");
  const share = (scroll, size, client) => (size > client ? (scroll + client / 2) / size : 0.5);
  const x = share(frame.scrollLeft, frame.scrollWidth, frame.clientWidth);
  const y = share(frame.scrollTop, frame.scrollHeight, frame.clientHeight);
  frame.classList.toggle("zoomed", zoom > 0);
  at("details-picture").style.width = zoom ? `${ZOOMS[zoom] * 100}%` : "";
  at("details-picture").style.height = zoom ? `${ZOOMS[zoom] * 100}%` : "";
  frame.scrollLeft = x * frame.scrollWidth - frame.clientWidth / 2;
  frame.scrollTop = y * frame.scrollHeight - frame.clientHeight / 2;
  at("details-smaller").disabled = zoom === 0;
  at("details-larger").disabled = zoom === ZOOMS.length - 1;
}

async function download() {
  const { path, name } = at("details-download").dataset;
  try {
    const url = URL.createObjectURL(await blob(path));
    const link = document.createElement("a");
    link.href = url;
    link.download = name || "image";
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  } catch (error) {
    at("details-trouble").textContent = error.message;
  }
}

const keys = {
  ArrowLeft: () => zoom === 0 && move(-1),
  ArrowRight: () => zoom === 0 && move(1),
  PageUp: () => move(-1),
  PageDown: () => move(1),
  "+": () => setZoom(zoom + 1),
  "=": () => setZoom(zoom + 1),
  "-": () => setZoom(zoom - 1),
  0: () => setZoom(0),
};

at("details").addEventListener("keydown", (event) => {
  if (!event.ctrlKey && !event.metaKey && !event.altKey && event.key in keys && keys[event.key]() !== false) {
    event.preventDefault();
  }
});
at("details").addEventListener("cancel", (event) => {
  event.preventDefault();
  around?.close();
});
at("details-close").addEventListener("click", () => around?.close());
at("details-previous").addEventListener("click", () => move(-1));
at("details-next").addEventListener("click", () => move(1));
at("details-larger").addEventListener("click", () => setZoom(zoom + 1));
at("details-smaller").addEventListener("click", () => setZoom(zoom - 1));
at("details-download").addEventListener("click", download);
at("details-frame").addEventListener("dblclick", () => setZoom(zoom ? 0 : 2));
