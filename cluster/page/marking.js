// What is decided about duplicates: shown at once, saved in the order in which it was decided, and
// taken back.

import { activeOf } from "./groups.js";
import { decide, decideByRule } from "./service.js";

// The service takes so many decisions at a time.
const MOST = 1000;

export class Marking {
  /**
   * @param {string} collection its name
   * @param {number} marked how many of its images are marked for removal
   * @param {function} onFailed told the error and the group when something could not be saved
   */
  constructor(collection, marked, onFailed) {
    this.collection = collection;
    this.marked = marked;
    this.onFailed = onFailed;
    this.done = [];
    this.saved = Promise.resolve();
  }

  /** Decide about images of a group: `changes` is `[[image, "keep" | "remove" | "apart" | null]]`. */
  change(group, changes) {
    const real = changes.filter(([image, after]) => image.decided !== after);
    if (real.length) {
      const before = real.map(([image]) => [image, image.decided]);
      this.done.push({ group, before });
      this.#apply(group, real);
    }
    return real.length > 0;
  }

  /** Mark what a rule does not keep, in all groups; resolves to how many images are marked now. */
  async byRule(asked, onProgress) {
    const marked = [];
    this.done.push({ marked });
    await this.saved;
    for (let offset = 0; offset !== null; ) {
      const answer = await decideByRule({ ...asked, offset });
      marked.push(...answer.marked);
      this.marked += answer.marked.length;
      offset = answer.next;
      onProgress(marked.length);
    }
    return marked.length;
  }

  /**
   * Take back what was decided last; resolves to `{group}`, to `{}` where it was about many, and to
   * null where there is nothing.
   */
  async undo() {
    const last = this.done.pop();
    if (!last) {
      return null;
    }
    if (last.group) {
      this.#apply(last.group, last.before);
      return { group: last.group };
    }
    await this.saved;
    for (let start = 0; start < last.marked.length; start += MOST) {
      const remove = last.marked.slice(start, start + MOST);
      await decide({ collection: this.collection, remove, undo: true });
      this.marked -= remove.length;
    }
    return {};
  }

  /** Forget what could be taken back: it is done. */
  settle(marked) {
    this.marked = marked;
    this.done = [];
  }

  #apply(group, changes) {
    const [back, forth] = [nothing(this.collection), nothing(this.collection)];
    const before = this.marked;
    for (const [image, after] of changes) {
      note(back, group, image, image.decided);
      note(forth, group, image, after);
      this.marked += (after === "remove") - (image.decided === "remove");
      image.decided = after;
    }
    suggest(group);
    const more = this.marked - before;
    this.saved = this.saved
      .then(() => count(back) && decide({ ...back, undo: true }))
      .then(() => count(forth) && decide(forth))
      .catch((error) => {
        this.done = [];
        this.marked -= more;
        this.onFailed(error, group);
      });
  }
}

function nothing(collection) {
  return { collection, keep: [], remove: [], apart: [] };
}

function count({ keep, remove, apart }) {
  return keep.length + remove.length + apart.length;
}

function note(decisions, group, image, decided) {
  if (decided === "apart") {
    decisions.apart.push([group.images[0].uri, image.uri]);
  } else if (decided) {
    decisions[decided].push(image.uri);
  }
}

/** Which images of a group are kept by now, as the service would say. */
function suggest(group) {
  const active = activeOf(group);
  for (const image of group.images) {
    image.ruled ??= image.keep;
  }
  const kept = active.filter((image) => image.decided === "keep" || image.protected);
  const left = active.filter(({ decided }) => decided !== "remove");
  const its = kept.length ? kept : [left.find(({ ruled }) => ruled) ?? left[0]];
  for (const image of group.images) {
    image.keep = its.includes(image) || !active.includes(image);
  }
}
