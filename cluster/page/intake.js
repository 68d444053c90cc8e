// The ways in which an image is given: chosen, dropped or pasted, or by its address.

const at = (id) => document.getElementById(id);

let claimed = null;

/** Let what is dropped or pasted as files go to `act`, a DataTransfer each; null: be asked by again. */
export function claimDrops(act, curtain) {
  claimed = act;
  at("curtain").textContent = curtain;
}

/** Call `onFile` with a file that is given, `onAddress` with a text that should be an address. */
export function whenGiven({ onFile, onAddress }) {
  at("file").addEventListener("change", ({ target }) => {
    if (target.files.length) {
      onFile(target.files[0]);
    }
    // So that the same file may be chosen once more.
    target.value = "";
  });

  at("address").addEventListener("input", () => at("address").removeAttribute("aria-invalid"));
  at("address-form").addEventListener("submit", (event) => {
    event.preventDefault();
    onAddress(at("address").value);
  });

  document.addEventListener("paste", (event) => {
    const [file] = event.clipboardData.files;
    if (claimed) {
      if (file) {
        event.preventDefault();
        claimed(event.clipboardData);
      }
      return;
    }
    const text = event.clipboardData.getData("text/plain");
    // A text that is pasted into a field belongs there.
    if (file || (text && !event.target.closest?.("input"))) {
      event.preventDefault();
      file ? onFile(file) : onAddress(text);
    }
  });

  whenDropped((data) => {
    if (claimed) {
      claimed(data);
      return;
    }
    const [file] = data.files;
    const addresses = data.getData("text/uri-list");
    if (file) {
      onFile(file);
    } else if (addresses) {
      onAddress(addresses.split("\n").find((line) => !line.startsWith("#")) ?? "");
    }
  });
}

/** Let the whole page be where things can be dropped. */
function whenDropped(act) {
  // Elements that are entered and not yet left: more than none while something is above the page.
  let depth = 0;
  const enter = (change) => {
    depth += change;
    document.body.classList.toggle("dropping", depth > 0);
  };
  document.addEventListener("dragenter", (event) => {
    event.preventDefault();
    enter(1);
  });
  document.addEventListener("dragleave", () => enter(-1));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    enter(-depth);
    act(event.dataTransfer);
  });
}
