// What the page says. Texts that are always there are in index.html.

const MONTHS = [
  "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
  "November", "December",
];
/** A number, and what it is of. */
const count = (n, one, many) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

function monthName(month) {
  const [year, number] = month.split("-");
  return number ? `${MONTHS[number - 1]} ${year}` : year;
}

export const texts = {
  title: (name) => (name ? `${name} · simdist` : "simdist"),
  tryAgain: "Try again",
  tokenRefused: "The service does not accept this token.",

  search: {
    curtain: "Drop it to find similar images",
    searching: "Searching…",
    asked: "The image that is searched by",
    uploadGone: "The image was kept only until the page was loaded anew. Please choose it again.",
    noAddress: "That is no address of an image: it begins like https://, s3:// or file://",
    empty: (name) =>
      `${name ? `The collection ${name}` : "This service"} has no images yet: add some with simdist ingest.`,
    about: (images, name) => `${images.toLocaleString("en")} images in the collection ${name}`,
    address: "Address of an image",
    addressOrWords: "Words, or the address of an image",
    placeholder: "or its address",
    placeholderWords: "or words, or its address",
    recallUsual: "usual",
    noAnswer: "No answer",
    nothing: "Nothing similar",
    found: (n) => count(n, "similar image", "similar images"),
    noLabel: "no label",
    noneLike: "The collection has no image like this.",
    noneLabelled: (label) => `No image has the label “${label}”.`,
    nonePasses: (label, where) =>
      `No image ${label ? `with the label “${label}” ` : ""}passes the filter ${where}`,
  },

  refining: {
    part: "Search by a part…",
    otherPart: "Search by another part…",
    details: (name) => `Details of ${name}`,
    like: (name) => `More like ${name}`,
    unlike: (name) => `Less like ${name}`,
    takeAway: {
      like: (n) => `More like this (${n}): take it away`,
      unlike: (n) => `Less like this (${n}): take it away`,
    },
  },

  browse: {
    title: "Browse",
    count: (n) => count(n, "image", "images"),
    loading: "Loading…",
    waiting: "The images are being put in order…",
    unknown: "Image that is still loading",
    nothing: (asked) => (asked ? "No image is like that." : "The collection has no images yet."),
    date: (date) => date.replace("T", " "),
    month: (month, n) => `${monthName(month)} (${n.toLocaleString("en")})`,
    emptyLabel: "(empty)",
    takeAway: (name) => `Show not only ${name}`,
  },

  details: {
    place: (index, total) => `${index.toLocaleString("en")} of ${total.toLocaleString("en")}`,
    folder: "Folder",
    label: "Label",
    date: "Date",
    camera: "Camera",
    size: "Size",
    file: "File",
    score: "Score",
    pixels: (width, height) => `${width} × ${height} pixels`,
    bytes: (n) => (n < 1e6 ? `${Math.ceil(n / 1e3)} kB` : `${(n / 1e6).toFixed(1)} MB`),
  },

  duplicates: {
    title: "Duplicates",
    waiting: "Waiting for the service…",
    doing: (doing, done, total) =>
      `${doing.charAt(0).toUpperCase()}${doing.slice(1)}${total ? `: ${done.toLocaleString("en")} of ${total.toLocaleString("en")}` : ""}…`,
    failed: (detail) => `The duplicates could not be found: ${detail}.`,
    cancelled: "Stopped.",
    none: (images) => `None of the ${count(images, "image", "images")} is a duplicate.`,
    outdated: "The collection has changed since these were found.",
    leftOut: (groups) => `${count(groups, "more group is", "more groups are")} not shown: decide about these first.`,
    where: (number, total) => `Group ${number.toLocaleString("en")} of ${total.toLocaleString("en")}`,
    title1: (number, total) => `Duplicates, ${number.toLocaleString("en")} of ${total.toLocaleString("en")}`,
    group: (number, total, images) =>
      `Group ${number.toLocaleString("en")} of ${total.toLocaleString("en")}: ${count(images, "image", "images")}`,
    allDecided: "All groups are decided.",
    only: (name, others) =>
      others ? `Keep only ${name}, remove ${count(others, "other", "others")}` : `Keep only ${name}`,
    remove: (marked) => (marked ? `Remove ${count(marked, "image", "images")}…` : "Nothing to remove"),
    keep: "Keep",
    removeOne: "Remove",
    apart: "Not a duplicate",
    states: {
      keep: "Kept",
      remove: "To be removed",
      apart: "Not a duplicate",
      suggested: "Kept by the rule",
      other: "Undecided",
      gone: "Removed",
      changed: "Has changed since",
      protected: "Kept: a reference",
    },
    facts: { size: "Size", bytes: "File", format: "Format", date: "Date", label: "Label", place: "Folder", score: "Score" },
    pixels: (width, height) => `${width.toLocaleString("en")} × ${height.toLocaleString("en")}`,
    bytes: (bytes) =>
      bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`,
    unknown: "unknown",
    best: { size: "largest", bytes: "largest", oldest: "oldest", newest: "newest" },
    undone: "Taken back.",
    nothingToUndo: "There is nothing to take back.",
    said: { keep: "Kept", remove: "Marked for removal", apart: "Not a duplicate", none: "Undecided" },
    bulkQuestion: (images, rule) =>
      `Keep ${rule} of each group, and mark ${count(images, "other image", "other images")} for removal?`,
    bulkMore: "What you have decided already stays. Nothing is removed yet, and this can be undone.",
    bulkAct: (images) => `Mark ${count(images, "image", "images")}`,
    bulkNothing: "There is nothing left that this rule would mark.",
    bulkDoing: (marked) => `Marking: ${marked.toLocaleString("en")} so far…`,
    bulkDone: (marked) => `${count(marked, "image is", "images are")} marked for removal.`,
    removeQuestion: (images, name) =>
      `Remove ${count(images, "image", "images")} from the index of ${name}?`,
    removeMore: "Files stay where they are. This cannot be undone here: to have them back, index them again.",
    removeAct: (images) => `Remove ${count(images, "image", "images")}`,
    removing: (done) => `Removing: ${done.toLocaleString("en")} so far…`,
    removed: (deleted, left) =>
      `${count(deleted, "image is", "images are")} removed${left ? `; ${count(left, "other has", "others have")} changed or gone, and stayed` : ""}.`,
    cancel: "Cancel",
    close: "Close",
    readOnly: "This token may only look. To decide about duplicates takes a write token.",
    hint: "Keys: J and K for groups, ← and → within one, Enter keeps the chosen image only, ? shows all.",
    keysTitle: "Keys",
    keys: [
      ["J or ↓", "next group"],
      ["K or ↑", "previous group"],
      ["→ and ←", "next, previous image of the group"],
      ["Enter", "keep the chosen image only, mark the others for removal, and go on"],
      ["P", "keep the chosen image, whatever the rule"],
      ["R or Delete", "mark the chosen image for removal, or not"],
      ["N", "the chosen image is not a duplicate"],
      ["A", "keep all: none of them are duplicates, and go on"],
      ["U or Ctrl+Z", "take back what was decided last"],
      ["G", "go to the next group that is undecided"],
      ["Home, End", "first, last group"],
      ["?", "show these keys"],
    ],
  },

  adding: {
    title: "Add images",
    curtain: "Drop it to add it",
    refused: "This token may only look at the collection. To add images takes a write token.",
    how: "An image is known by where it came from: urn:upload: with its size, its date and its path. Dropped once more, it is the same one; files stay where they are.",
    doing: (done, total) => `${done.toLocaleString("en")} of ${count(total, "image", "images")}`,
    finished: (done, failed) =>
      `${count(done, "image", "images")} added${failed ? `, ${failed.toLocaleString("en")} failed` : ""}`,
    stopped: (left) => `Stopped: ${count(left, "image was", "images were")} not sent.`,
    passedOver: (n) => `${count(n, "file is", "files are")} no image, and left out.`,
    failed: (n) => `${n.toLocaleString("en")} failed`,
    done: (n) => count(n, "image is in the collection", "images are in the collection"),
    onlyLatest: (n) => `, the latest ${n.toLocaleString("en")} of them:`,
    retry: "Try again",
    outcomes: { added: "added", replaced: "replaced", unchanged: "was there already" },
    same: (name) => `the same picture as ${name}`,
    similar: (name) => `similar to ${name}`,
    more: (n) => `and ${n.toLocaleString("en")} more`,
  },

  service: {
    unreachable: "The service cannot be reached. It may have been stopped, or the network is down.",
    busy: (sentence) => `The service is busy, or a part of it is missing. ${sentence}`,
    answered: (status) => `The service answered ${status}.`,
    notAnImage: (name, type) => `${name} is not an image: it is ${type}.`,
    tooLarge: (name, size, most) => `${name} has ${size} MB; images may have at most ${most} MB.`,
    unreadable: (name) => `${name} cannot be read: is it a folder, or was it moved?`,
  },
};
