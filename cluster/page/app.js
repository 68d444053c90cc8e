// The page: what every view needs. Which of them is shown, and with what, is in the address.

import { chosen, offerCollections, whenChosen } from "./controls.js";
import { whenGiven } from "./intake.js";
import * as service from "./service.js";
import { texts } from "./texts.js";
import { again, beginViews, current, placeTrouble, pointNavigation, prepare, register, viewAddress } from "./views.js";

const at = (id) => document.getElementById(id);
// Whether this browser has shown how all this is used.
const TOUR = "simdist-tour";

// Whether the service has said what it serves.
let started = false;
let searching = null;

function showTrouble(error) {
  if (error.status === 401) {
    showToken();
    return;
  }
  const said = document.createElement("p");
  said.textContent = error.message;
  at("trouble").replaceChildren(said);
  if (error.passing) {
    const retry = document.createElement("button");
    retry.textContent = texts.tryAgain;
    retry.addEventListener("click", () => (started ? tryAgain() : start()));
    at("trouble").append(retry);
  }
  at("status").textContent = "";
}

async function tryAgain() {
  if (current().name === "search") {
    await inSearch((view) => view.arrive({ anew: true }));
  } else {
    await again();
  }
}

async function loadSearching() {
  searching = await import("./searching.js");
  return searching;
}

/** Let the view that searches do something, wherever one is. */
async function inSearch(act) {
  try {
    // At once, where it is here: what is busy is to be seen to be.
    await act(searching ?? (await service.reached(loadSearching)));
  } catch (error) {
    showTrouble(error);
  }
}

function showToken() {
  at("token-form").after(at("trouble"));
  if (service.hasToken()) {
    const said = document.createElement("p");
    said.textContent = texts.tokenRefused;
    at("trouble").replaceChildren(said);
    service.forgetToken();
  }
  at("token-form").hidden = false;
  at("views").hidden = true;
  at("tour").hidden = true;
  at("token").select();
}

// The beginning

async function start() {
  // At once: what has been seen must not move from under a finger.
  at("tour").hidden = kept(TOUR);
  at("trouble").replaceChildren();
  document.body.classList.add("busy");
  try {
    offerCollections(await service.collections());
  } catch (error) {
    document.body.classList.remove("busy");
    if (!at("views").hidden) {
      placeTrouble();
    }
    showTrouble(error);
    return;
  }
  document.body.classList.remove("busy");
  at("token-form").hidden = true;
  at("views").hidden = false;
  if (started) {
    await again();
    return;
  }
  started = true;
  await beginViews();
}

/** Whether this browser keeps a note; where it keeps none it need not be asked each time. */
function kept(note) {
  try {
    return localStorage.getItem(note) !== null;
  } catch {
    return true;
  }
}

register("search", loadSearching);
register("browse", () => import("./browse.js"));
register("duplicates", () => import("./duplicates.js"));
register("add", () => import("./adding.js"));

at("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  service.useToken(at("token").value.trim());
  at("token").value = "";
  start();
});

at("tour-done").addEventListener("click", () => {
  at("tour").hidden = true;
  localStorage.setItem(TOUR, "seen");
});

whenGiven({
  onFile: (file) => inSearch((view) => view.askFile(file)),
  onAddress: (text) => inSearch((view) => view.askText(text)),
});

whenChosen({
  onCollection() {
    const { name } = current();
    if (name !== "search") {
      location.hash = viewAddress(name, { collection: chosen().collection });
      return;
    }
    pointNavigation();
    inSearch((view) => view.askElsewhere());
  },
  onOther: () => inSearch((view) => view.askOtherwise()),
});

prepare(showTrouble);
start();
