// Thumbnails for a grid that scrolls: the last that came into sight first, some at a time, and none
// for what is out of sight again.

import { blob, hasToken } from "./service.js";

const AT_ONCE = 8;
// Milliseconds: while more keep coming into sight for longer than a moment, and more often than that,
// none is begun. What flies past is not fetched, and a slow machine has its time for the frames.
const MOMENT = 50;
const CALM = 140;

// The images that wait, the last one first in line, and those under way with what stops them.
const waiting = new Map();
const underWay = new Map();

// When they began to come, and the last one came.
let first = -CALM;
let last = -CALM;
let frame = 0;

/** Show what is at a path in an <img>, when its turn comes. */
export function show(img, path) {
  stop(img);
  waiting.set(img, path);
  const now = performance.now();
  first = now - last > CALM ? now : first;
  last = now;
  soon();
}

/** Load an image no further. */
export function stop(img) {
  waiting.delete(img);
  underWay.get(img)?.();
}

function soon() {
  frame ||= waiting.size && requestAnimationFrame(next);
}

function next() {
  frame = 0;
  if (last - first > MOMENT && performance.now() - last < CALM) {
    soon();
    return;
  }
  while (underWay.size < AT_ONCE && waiting.size) {
    const [img, path] = [...waiting].at(-1);
    waiting.delete(img);
    begin(img, path);
  }
}

function begin(img, path) {
  const controller = new AbortController();
  const { signal } = controller;
  let url = null;
  const end = (missing) => {
    underWay.delete(img);
    controller.abort();
    if (url) {
      URL.revokeObjectURL(url);
    }
    img.parentElement?.classList.toggle("missing", missing);
    soon();
  };
  underWay.set(img, () => {
    img.removeAttribute("src");
    end(false);
  });
  // Events of a picture that is stopped come to nobody.
  img.addEventListener("load", () => end(false), { signal });
  img.addEventListener("error", () => end(true), { signal });
  if (!hasToken()) {
    img.src = path;
    return;
  }
  blob(path, { signal }).then(
    (data) => {
      if (!signal.aborted) {
        url = URL.createObjectURL(data);
        img.src = url;
      }
    },
    () => signal.aborted || end(true),
  );
}
