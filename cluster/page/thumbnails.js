// Thumbnails of indexed images. An <img> cannot send a token, so with one they are fetched.

import { blob, hasToken, thumbnailPath } from "./service.js";

const paths = new WeakMap();
const nearby = new IntersectionObserver(load, { rootMargin: "400px" });

/** Show an indexed image's thumbnail in an <img>, once it is about to be seen. */
export function showThumbnail(img, id, collection) {
  const path = thumbnailPath(id, collection);
  if (!hasToken()) {
    img.loading = "lazy";
    img.decoding = "async";
    show(img, path);
    return;
  }
  paths.set(img, path);
  nearby.observe(img);
}

/** Show what is at a path in an <img>, at once. */
export function showPreview(img, path, { signal }) {
  if (!hasToken()) {
    show(img, path);
    return;
  }
  blob(path, { signal }).then(
    (data) => showBlob(img, data),
    () => signal.aborted || missing(img),
  );
}

/** Show a Blob in an <img>, and keep it no longer than it takes to read it. */
export function showBlob(img, data) {
  const url = URL.createObjectURL(data);
  for (const end of ["load", "error"]) {
    img.addEventListener(end, () => URL.revokeObjectURL(url), { once: true });
  }
  show(img, url);
}

function show(img, url) {
  img.addEventListener("error", () => missing(img), { once: true });
  img.src = url;
}

function missing(img) {
  img.classList.add("missing");
}

function load(entries) {
  for (const { isIntersecting, target } of entries) {
    if (isIntersecting) {
      nearby.unobserve(target);
      blob(paths.get(target)).then(
        (data) => showBlob(target, data),
        () => missing(target),
      );
    }
  }
}
