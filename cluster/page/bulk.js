// What is done with many duplicates at once, and only after a question.

import { element } from "./groups.js";
import { attempt, forget, remark, review, say, show } from "./review.js";
import * as service from "./service.js";
import { texts } from "./texts.js";
import { again } from "./views.js";

const said = texts.duplicates;
const at = (id) => document.getElementById(`duplicates-${id}`);

/** Ask whether what a rule does not keep is to be marked, in all groups. */
export async function askRule() {
  const { asked, marking } = review;
  await marking.saved;
  const { proposed } = await service.duplicateCounts({ ...asked, offset: 0 });
  const rule = at("keep").selectedOptions[0].textContent;
  if (!proposed) {
    ask(said.bulkNothing, "");
    return;
  }
  ask(said.bulkQuestion(proposed, rule), said.bulkMore, said.bulkAct(proposed), async () => {
    const marked = await marking.byRule(asked, (some) => say(said.bulkDoing(some)));
    forget();
    await show(review.number);
    say(said.bulkDone(marked));
  });
}

/** Ask whether what is marked is to be removed. */
export async function askRemoval() {
  const { asked, marking } = review;
  await marking.saved;
  const { marked } = await service.duplicateCounts({ ...asked, keep: undefined, offset: 0 });
  ask(said.removeQuestion(marked, asked.collection), said.removeMore, said.removeAct(marked), async () => {
    let [deleted, left] = [0, 0];
    for (let answer = { marked: 1 }; answer.marked; ) {
      answer = await service.removeMarked(asked.collection);
      deleted += answer.deleted;
      left += answer.left;
      say(said.removing(deleted));
    }
    marking.settle(0);
    remark(said.removed(deleted, left));
    // Not waited for: it may take long, and can be stopped.
    again();
  });
}

/** Ask before something is done; without `words` there is nothing to be done. */
function ask(question, more, words, act) {
  const title = element("h2", "", question);
  title.id = "duplicates-question";
  const row = element("div", "row");
  const cancel = element("button", "", words ? said.cancel : said.close);
  cancel.addEventListener("click", () => at("dialog").close());
  if (words) {
    const go = element("button", "primary", words);
    go.addEventListener("click", () => {
      at("dialog").close();
      attempt(act);
    });
    row.append(go);
  }
  row.append(cancel);
  at("dialog").replaceChildren(title, ...[more].flat().filter(Boolean).map((one) => (one.nodeType ? one : element("p", "", one))), row);
  at("dialog").showModal();
}

/** Show which keys there are. */
export function showKeys() {
  const list = element("dl", "keys");
  for (const [keys, what] of said.keys) {
    const both = element("div");
    both.append(element("dt", "", keys), element("dd", "", what));
    list.append(both);
  }
  ask(said.keysTitle, list);
}
