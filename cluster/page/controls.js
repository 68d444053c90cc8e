// How to search: the collection, the number of results, the label, the filter, the recall.

import { texts } from "./texts.js";

const at = (id) => document.getElementById(id);

let collections = [];

/** Offer the collections that the service serves; there is nothing to choose where it is one. */
export function offerCollections(served) {
  collections = served;
  at("collection").replaceChildren(...served.map(({ name }) => new Option(name, name)));
  at("collection-field").hidden = served.length < 2;
  offer();
}

/** Offer what the chosen collection can be asked. */
function offer() {
  offerRecalls();
  const words = Boolean(chosenCollection()?.words);
  at("address").placeholder = words ? texts.search.placeholderWords : texts.search.placeholder;
  at("address").inputMode = words ? "text" : "url";
  at("address-label").textContent = words ? texts.search.addressOrWords : texts.search.address;
}

/** The collection that is chosen, as the service describes it; undefined where there is none. */
export function chosenCollection() {
  return collections.find(({ name }) => name === at("collection").value);
}

/** What is chosen, as fields of a question. */
export function chosen() {
  const recall = at("recall").value;
  const { value: name } = at("collection");
  return {
    n: Number(at("n").value),
    label: at("label").value.trim() || undefined,
    where: at("where").value.trim() || undefined,
    recall: recall ? Number(recall) : undefined,
    // The first one need not be said: addresses stay short.
    collection: name && name !== collections[0]?.name ? name : undefined,
  };
}

/** Show what a question says. */
export function showChosen({ n, label, where, recall, collection }) {
  chooseCollection(collection);
  choose(at("n"), n);
  choose(at("recall"), recall ?? "");
  at("label").value = label ?? "";
  at("where").value = where ?? "";
  at("where").removeAttribute("aria-invalid");
}

/** Choose a collection; the first one where none is named. */
export function chooseCollection(name) {
  choose(at("collection"), name ?? collections[0]?.name ?? "");
  offer();
}

/** Let the filter be corrected: the service does not understand it. */
export function refuseFilter() {
  at("where").setAttribute("aria-invalid", "true");
}

/** Call `onCollection` when another collection is chosen, `onOther` when anything else is. */
export function whenChosen({ onCollection, onOther }) {
  at("collection").addEventListener("change", () => {
    offer();
    onCollection();
  });
  at("controls").addEventListener("submit", (event) => event.preventDefault());
  at("controls").addEventListener("change", onOther);
  // What was picked from a list, or taken away with the field's own button.
  for (const field of ["label", "where"]) {
    at(field).addEventListener("input", (event) => {
      if (!(event instanceof InputEvent) || event.inputType === "insertReplacementText") {
        onOther();
      }
    });
  }
}

/** Choose a value of a list; what the list lacks came with an address, and is added. */
function choose(select, value) {
  const text = String(value);
  if (![...select.options].some((option) => option.value === text)) {
    select.add(new Option(text, text));
  }
  select.value = text;
}

/** Offer the recalls that the collection's tables were measured to reach. */
function offerRecalls() {
  const recalls = chosenCollection()?.recalls ?? [];
  const percent = (recall) => `${+(100 * recall).toFixed(2)} %`;
  at("recall").replaceChildren(
    new Option(texts.search.recallUsual, ""),
    ...recalls.map((recall) => new Option(percent(recall), String(recall))),
  );
  at("recall-field").hidden = !recalls.length;
}
