// What the page says. Texts that are always there are in index.html, those of the views in which a
// collection is tended in tending-texts.js: who looks around need not wait for them.

const MONTHS = [
  "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
  "November", "December",
];
/** A number, and what it is of. */
export const count = (n, one, many) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

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
    pixels: (width, height) => `${width} × ${height} pixels`,
    bytes: (n) => (n < 1e6 ? `${Math.ceil(n / 1e3)} kB` : `${(n / 1e6).toFixed(1)} MB`),
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
