// A question is kept in the page's address, behind the '#': links to results are questions, the
// browser's history is the history of questions, and no server's log sees them.

/** What can be asked by; an upload's key leads to a file that this tab was given. */
const KINDS = ["upload", "id", "uri", "url", "text"];
// `like` and `unlike` are ids with dots between them, `crop` is x,y,width,height in fractions. `open`
// is the hit whose details are shown.
const NARROWER = ["like", "unlike", "crop"];
const FIELDS = [...KINDS, ...NARROWER, "collection", "n", "label", "where", "recall", "open"];

export const DEFAULT_RESULTS = 24;

/** The question in an address, such as `#id=5f…&n=48`; null where there is none. */
export function parsed(hash) {
  const parameters = new URLSearchParams(hash.replace(/^#/, ""));
  const question = {};
  for (const field of FIELDS) {
    if (parameters.get(field)) {
      question[field] = parameters.get(field);
    }
  }
  if (!KINDS.some((kind) => kind in question)) {
    return null;
  }
  question.n = Math.trunc(question.n) || DEFAULT_RESULTS;
  question.recall = Number(question.recall) || undefined;
  return question;
}

/** The address of a question; `parsed` gives it back. */
export function addressOf(question) {
  const said = FIELDS.filter(
    (field) => question[field] && !(field === "n" && question.n === DEFAULT_RESULTS),
  );
  return `#${new URLSearchParams(said.map((field) => [field, question[field]]))}`;
}

/** What a text that was typed or pasted asks by: `{url}`, `{uri}`, or null if it is no address. */
export function addressed(text) {
  const address = text.trim();
  if (/^https?:\/\/\S+$/i.test(address)) {
    return { url: address };
  }
  return /^([a-z][a-z0-9+.-]*:\/\/|urn:)./i.test(address) ? { uri: address } : null;
}

/** A URI as a person reads it: `{name, place}`, its last part and what is before that. */
export function readable(uri) {
  let path = uri.replace(/^file:\/\//, "");
  try {
    path = decodeURIComponent(path);
  } catch {
    // The name is not UTF-8: it stays percent-encoded.
  }
  const cut = path.replace(/\/+$/, "").lastIndexOf("/");
  return { name: path.slice(cut + 1), place: path.slice(0, cut + 1) };
}
