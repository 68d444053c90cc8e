// The service: its address is the page's own, its answers and its troubles.

import { texts } from "./texts.js";

// Kept for as long as the tab: what asks for a token may be another service tomorrow.
const TOKEN = "simdist-token";
const MAX_BYTES = 20 * 1024 * 1024;

/** Why a question was not answered, as a sentence for a person. */
export class ServiceError extends Error {
  /**
   * @param {string} message what to show
   * @param {number} status of HTTP, 0 where there was no answer
   */
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }

  /** Whether the same question may be answered later. */
  get passing() {
    return [0, 429, 502, 503, 504].includes(this.status);
  }
}

/** Whether requests carry a token. */
export function hasToken() {
  return sessionStorage.getItem(TOKEN) !== null;
}

/** Send this token from now on. */
export function useToken(token) {
  sessionStorage.setItem(TOKEN, token);
}

/** Send no token any more. */
export function forgetToken() {
  sessionStorage.removeItem(TOKEN);
}

/** What the service serves: `[{name, images, recalls, words, ...}]`. */
export async function collections() {
  return (await json("v1/collections")).collections;
}

/** The record of an indexed image: `{id, uri, label, ...}`. */
export function image(id, collection, { signal } = {}) {
  return json(`v1/images/${encodeURIComponent(id)}${query({ collection })}`, { signal });
}

/** Where an indexed image's thumbnail is; with its `version` it is fetched only once. */
export function thumbnailPath(id, collection, version) {
  return `v1/images/${encodeURIComponent(id)}/thumbnail${query({ collection, v: version })}`;
}

/** Where an indexed image is, as large as a screen. */
export function previewPath(id, collection) {
  return `v1/images/${encodeURIComponent(id)}/preview${query({ collection })}`;
}

/** Where the file of an indexed image is. */
export function originalPath(id, collection) {
  return `v1/images/${encodeURIComponent(id)}/original${query({ collection })}`;
}

/** What is at a path, as a Blob. */
export async function blob(path, { signal } = {}) {
  const answer = await request(path, { signal });
  return reached(() => answer.blob());
}

/** A part of all images in an order: `{version, total, images: [{id, uri, label, date}]}`. */
export function browse(how, { signal } = {}) {
  return json(`v1/browse${query(how)}`, { signal });
}

/** How many images are of which kind: `{folders, labels, months}`, each `[{value, count}]`. */
export function facets(how, { signal } = {}) {
  return json(`v1/facets${query(how)}`, { signal });
}

/**
 * The images most similar to what is asked by: `[{id, uri, score, label}]`, the best first.
 *
 * @param {object} by `{file}`, or one of `{id}`, `{uri}`, `{url}`, `{text}`, each with a `crop`
 *   where wished; or `{like, unlike}`, lists of these
 * @param {object} how `n`, and where wished `recall`, `label`, `collection`
 */
export async function search(by, how, { signal } = {}) {
  const { file, ...said } = by;
  if (!file) {
    return (await post("v1/search", { ...said, ...how }, signal)).hits;
  }
  await check(file);
  const headers = { "Content-Type": file.type || "application/octet-stream" };
  const path = `v1/search${query({ ...said, ...how })}`;
  return (await json(path, { method: "POST", headers, body: file, signal })).hits;
}

/** Index an image; resolves to what became of it: `{id, uri, outcome, duplicates}`. */
export async function add(file, how, { signal } = {}) {
  await check(file);
  const headers = { "Content-Type": file.type || "application/octet-stream" };
  return json(`v1/images${query(how)}`, { method: "POST", headers, body: file, signal });
}

/** Begin to find duplicates; `wanted` is `{collection, sought}`. */
export function findDuplicates(wanted, { signal } = {}) {
  return post("v1/duplicates", wanted, signal);
}

/** How far that is, and some groups: `asked` is `wanted` with `keep`, `offset` and `n`. */
export function duplicates(asked, { signal } = {}) {
  return json(`v1/duplicates${query(asked)}`, { signal });
}

/** How much is decided, and what a rule would mark. */
export function duplicateCounts(asked, { signal } = {}) {
  return json(`v1/duplicates/counts${query(asked)}`, { signal });
}

/** Stop finding them. */
export function stopDuplicates(wanted) {
  return json(`v1/duplicates${query(wanted)}`, { method: "DELETE" });
}

/** Decide: `{collection, keep, remove, apart, undo}`. */
export function decide(decisions) {
  return post("v1/duplicates/decisions", decisions);
}

/** Mark what a rule does not keep, of some groups: `{marked, next}`. */
export function decideByRule(asked) {
  return post("v1/duplicates/decisions/by-rule", asked);
}

/** Remove some of what is marked: `{deleted, left, marked}`. */
export function removeMarked(collection) {
  return post("v1/duplicates/removal", { collection });
}

function post(path, value, signal) {
  const headers = { "Content-Type": "application/json" };
  return json(path, { method: "POST", headers, body: JSON.stringify(value), signal });
}

/** Refuse what cannot be read or the service would refuse, before it is sent there. */
async function check(file) {
  if (file.type && !file.type.startsWith("image/")) {
    throw new ServiceError(texts.service.notAnImage(file.name, file.type), 415);
  }
  if (file.size > MAX_BYTES) {
    const size = Math.ceil(file.size / 1024 / 1024).toLocaleString("en");
    throw new ServiceError(texts.service.tooLarge(file.name, size, MAX_BYTES / 1024 / 1024), 413);
  }
  try {
    await file.slice(0, 1).arrayBuffer();
  } catch {
    throw new ServiceError(texts.service.unreadable(file.name), 415);
  }
}

function query(parameters) {
  const given = Object.entries(parameters).filter(([, value]) => value !== undefined);
  return given.length ? `?${new URLSearchParams(given)}` : "";
}

async function json(path, options) {
  const answer = await request(path, options);
  return reached(() => answer.json());
}

async function request(path, { headers, ...options } = {}) {
  const sent = new Headers(headers);
  if (hasToken()) {
    sent.set("Authorization", `Bearer ${sessionStorage.getItem(TOKEN)}`);
  }
  const answer = await reached(() => fetch(path, { ...options, headers: sent }));
  if (!answer.ok) {
    throw new ServiceError(await reason(answer), answer.status);
  }
  return answer;
}

/** What an act resolves to that needs the service. */
export async function reached(act) {
  try {
    return await act();
  } catch (error) {
    if (error.name === "AbortError") {
      throw error;
    }
    throw new ServiceError(texts.service.unreachable);
  }
}

async function reason(answer) {
  let detail;
  try {
    ({ detail } = await answer.json());
  } catch {
    // Not the service's own words: those of a proxy before it.
  }
  const sentence = typeof detail === "string" ? capitalised(detail) : texts.service.answered(answer.status);
  return answer.status === 503 ? texts.service.busy(sentence) : sentence;
}

function capitalised(text) {
  // Not where it begins with a URI or a name.
  const sentence = text.replace(/^[a-z]+(?= )/, (word) => word.charAt(0).toUpperCase() + word.slice(1));
  return /[.!?]$/.test(sentence) ? sentence : `${sentence}.`;
}
