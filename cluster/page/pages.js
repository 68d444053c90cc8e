// A long list that a service has, of which some pages are here: those that were in sight last.

import { ServiceError } from "./service.js";

const SIZE = 200;
const MOST = 40;
// Milliseconds: before pages are asked for that fly past; before a page that has changed meanwhile
// is asked for once more; before a service is asked again that is at work.
const PATIENCE = 60;
const FRESH = 3000;
const BUSY = 1500;

/**
 * @param {function} ask `(offset, n, {signal})` gives `{version, total, images}`
 * @param {object} on `came(first, end)`: these are here now; `total(count)`: how many there are;
 *   `changed()`: the list is another one; `failed(error)`; `waiting()`: the service is at work
 */
export function makePages(ask, on) {
  const pages = new Map();
  const underWay = new Map();
  const closed = new AbortController();
  let version;
  let total = null;
  let timer = 0;
  let wanted = [];

  function stale(number) {
    const page = pages.get(number);
    return !page || (page.version !== version && Date.now() - page.at > FRESH);
  }

  function fetchWanted() {
    timer = 0;
    for (const [number, controller] of underWay) {
      if (!wanted.includes(number)) {
        controller.abort();
        underWay.delete(number);
      }
    }
    for (const number of wanted) {
      if (stale(number) && !underWay.has(number)) {
        fetchPage(number);
      }
    }
  }

  async function fetchPage(number) {
    const controller = new AbortController();
    underWay.set(number, controller);
    const signal = AbortSignal.any([controller.signal, closed.signal]);
    try {
      const answer = await patiently(() => ask(number * SIZE, SIZE, { signal }), signal);
      keep(number, answer);
    } catch (error) {
      if (!signal.aborted) {
        on.failed(error);
      }
    } finally {
      if (underWay.get(number) === controller) {
        underWay.delete(number);
      }
    }
  }

  async function patiently(act, signal) {
    for (;;) {
      try {
        return await act();
      } catch (error) {
        if (signal.aborted || !(error instanceof ServiceError) || ![429, 503].includes(error.status)) {
          throw error;
        }
        on.waiting();
        await new Promise((resolve) => setTimeout(resolve, BUSY));
        signal.throwIfAborted();
      }
    }
  }

  function keep(number, answer) {
    pages.delete(number);
    pages.set(number, { images: answer.images, version: answer.version, at: Date.now() });
    if (pages.size > MOST) {
      pages.delete(pages.keys().next().value);
    }
    const other = version !== undefined && version !== answer.version;
    version = answer.version;
    if (total !== answer.total) {
      total = answer.total;
      on.total(total);
    }
    on.came(number * SIZE, number * SIZE + answer.images.length);
    if (other) {
      on.changed();
    }
  }

  return {
    /** Have these here soon. */
    want(first, end) {
      wanted = [];
      for (let number = Math.floor(first / SIZE); number * SIZE < Math.max(end, 1); number += 1) {
        wanted.push(number);
      }
      if (total === null) {
        fetchWanted();
      } else if (wanted.some(stale) || underWay.size) {
        timer ||= setTimeout(fetchWanted, PATIENCE);
      }
    },
    /** The image with this number, if it is here. */
    at(index) {
      return pages.get(Math.floor(index / SIZE))?.images[index % SIZE];
    },
    /** The image with this number, as soon as it is here. */
    async get(index) {
      if (index < 0 || (total !== null && index >= total)) {
        return undefined;
      }
      const number = Math.floor(index / SIZE);
      if (!pages.has(number)) {
        await fetchPage(number);
      }
      return this.at(index);
    },
    get total() {
      return total ?? 0;
    },
    close() {
      clearTimeout(timer);
      closed.abort();
    },
  };
}
